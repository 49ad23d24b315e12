"""Real server processes for tests: `python -m tunesmith.cli serve` on a free port, with a data directory of its own.

With TUNESMITH_TEST_CLUSTER=1 each is a cluster instead: two servers behind a proxy, and two workers (`make
test-cluster`). With TUNESMITH_TEST_RAY=1 their jobs train on a Ray cluster (`make test-cluster-ray`).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from tests.ray_cluster import launching

CLUSTER = "TUNESMITH_TEST_CLUSTER"
START_SECONDS = 60  # the base model is converted once per data directory


@dataclass(frozen=True, slots=True)
class Server:
    base_url: str
    key: str
    data_dir: Path
    other_dirs: tuple[Path, ...] = ()  # of further servers behind the same address

    @property
    def data_dirs(self) -> tuple[Path, ...]:
        return (self.data_dir, *self.other_dirs)

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)


@contextmanager
def serving(directory: Path, *options: str, **settings: str) -> Iterator[Server]:
    """Fails when the server does not start, or is gone at the end. `settings` without `TUNESMITH_`, in lower case."""
    if os.environ.get(CLUSTER):
        from tests.cluster.machines import clustered

        with clustered(directory, *options, **settings) as cluster:
            first, *others = cluster.data_dirs
            yield Server(cluster.base_url, cluster.key, first, tuple(others))
        return
    given = {f"TUNESMITH_{name.upper()}": value for name, value in settings.items()}
    with launching(directory, {}) as place:
        yield from _served(directory, options, given | place)


def _served(directory: Path, options: Sequence[str], given: Mapping[str, str]) -> Iterator[Server]:
    data_dir, ready, log = directory / "data", directory / "ready.json", directory / "server.log"
    command = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0", "--ready-file", str(ready), *options]
    environment = {**os.environ, "TUNESMITH_DATA_DIR": str(data_dir), **given}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, START_SECONDS, "the server's start")
        assert process.poll() is None, log.read_text("utf-8")
        base_url = json.loads(ready.read_text("utf-8"))["base_url"]
        yield Server(base_url, (data_dir / "api-key").read_text("utf-8").strip(), data_dir)
        assert process.poll() is None, "the server died: " + log.read_text("utf-8")[-3000:]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.1)
