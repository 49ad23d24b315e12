"""A cluster of real processes: servers behind a proxy, and workers, on one PostgreSQL and one S3.

Each process has a data directory of its own, as if it ran on a machine of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.buckets import CREDENTIALS, s3_server
from tests.cluster.proxy import Proxy, free_port, proxying
from tests.databases import postgres_server
from tests.ray_cluster import launching

SERVERS, WORKERS = 2, 2
START_SECONDS = 90
STOP_SECONDS = 60


@dataclass
class Machine:
    """A server or a worker, which can be started again on its data directory."""

    folder: Path
    arguments: Sequence[str]
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ready.unlink(missing_ok=True)
        given = {**os.environ, **self.environment, "TUNESMITH_DATA_DIR": str(self.data_dir)}
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "tunesmith.cli", *self.arguments]
            self.process = subprocess.Popen(command, env=given, stdout=output, stderr=output)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def ready(self) -> Path:
        return self.folder / "ready.json"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.ready.exists():
            in_time = self.lives and time.monotonic() < deadline
            assert in_time, self.log.read_text("utf-8", "replace")[-3000:]
            time.sleep(0.05)

    @property
    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(STOP_SECONDS)


@dataclass
class Cluster:
    """All machines, and where clients reach them."""

    proxy: Proxy
    servers: list[Machine]
    workers: list[Machine]
    environment: dict[str, str] = field(default_factory=dict)  # of a process that is to be one of them

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}/v1"

    @property
    def key(self) -> str:
        return (self.servers[0].data_dir / "api-key").read_text("utf-8").strip()

    @property
    def data_dirs(self) -> list[Path]:
        return [server.data_dir for server in self.servers]


@contextmanager
def shared_parts() -> Iterator[dict[str, str]]:
    """The environment of processes that share a new database and a new bucket."""
    with postgres_server() as home, s3_server() as endpoint:
        yield {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": endpoint,
            "TUNESMITH_DATABASE_URL": f"postgresql://postgres@/postgres?host={home}",
            "TUNESMITH_STORAGE": "s3://tunesmith/cluster",
        }


@contextmanager
def clustered(directory: Path, *options: str, **settings: str) -> Iterator[Cluster]:
    """A cluster until the block ends; as of `tests.servers.serving`, `--no-worker` among the options is one without."""
    workers = 0 if "--no-worker" in options else WORKERS
    given = {f"TUNESMITH_{name.upper()}": value for name, value in {"drain_seconds": "1", **settings}.items()}
    with ExitStack() as stack:
        environment = {**stack.enter_context(shared_parts()), **given}
        environment |= stack.enter_context(launching(directory, environment))
        ports = [free_port() for _ in range(SERVERS)]
        proxy = stack.enter_context(proxying([("127.0.0.1", port) for port in ports]))
        cluster = Cluster(
            proxy,
            [_server(directory / f"server-{port}", port, options, environment) for port in ports],
            [Machine(directory / f"worker-{number}", ["worker"], environment) for number in range(workers)],
            environment,
        )
        for machine in (*cluster.servers, *cluster.workers):
            stack.callback(machine.stop)
        for server in cluster.servers:  # the first one makes the key
            server.start()
            server.wait_ready()
        for worker in cluster.workers:
            worker.start()
        yield cluster
        for machine in (*cluster.servers, *cluster.workers):
            assert machine.lives, machine.log.read_text("utf-8", "replace")[-3000:]


def _server(folder: Path, port: int, options: Sequence[str], environment: dict[str, str]) -> Machine:
    own = [option for option in options if option != "--no-worker"]
    command = ["serve", "--no-worker", "--port", str(port), "--ready-file", str(folder / "ready.json"), *own]
    return Machine(folder, command, environment)


def announced(machine: Machine) -> str:
    """The base URL of one server, past the proxy."""
    found: str = json.loads(machine.ready.read_text("utf-8"))["base_url"]
    return found
