"""A real Ray cluster for tests: a process of its own, which starts and kills nodes as it is told.

As a module it is that process: its first line on stdout is the address, each line on stdin a command, and the end of
stdin the end of the cluster. Ray's own token keeps others on the machine out.

With TUNESMITH_TEST_RAY=1 servers and workers of other tests train on a cluster (`make test-cluster-ray`).
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from tunesmith.launch.ray.launcher import LOOPBACK

RAY = "TUNESMITH_TEST_RAY"
TOKEN = secrets.token_hex(32)
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    **LOOPBACK,
    "OMP_NUM_THREADS": "1",
}
STORE_BYTES = 80 * 1024**2
HEAD_CPUS = 0  # so that jobs run on nodes, which can be killed


class RayCluster:
    """A head without room for jobs, and nodes with one processor each."""

    def __init__(self, nodes: int = 2, of_nodes: Mapping[str, str] | None = None) -> None:
        self.ports = [_free_port(), _free_port()]
        self.environment = {**ENVIRONMENT, "TMPDIR": tempfile.gettempdir()}  # of whoever connects, too
        self.of_nodes = of_nodes or {}  # such as the keys of a bucket
        self.nodes = nodes
        self.directory = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp")
        self._process: subprocess.Popen[str] | None = None
        self.address = self.client_address = ""

    def start(self) -> None:
        """Starts head and nodes; after `kill`, at the same address."""
        with (Path(self.directory.name) / "stderr").open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, __file__, self.directory.name, *map(str, self.ports)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **self.of_nodes, **self.environment},
                start_new_session=True,
            )
        self.address = cast(str, self._answer())
        self.client_address = f"ray://{self.address.rpartition(':')[0]}:{self.ports[1]}"
        for _ in range(self.nodes):
            self.add_node()

    def add_node(self) -> int:
        """Adds a node; the process id of its raylet."""
        return cast(int, self.tell("add"))

    def kill_node(self, raylet: int) -> None:
        """Kills a node's raylet, as when its machine is gone; what it has started ends by itself."""
        os.kill(raylet, signal.SIGKILL)
        self.tell("forget", raylet)

    def raylets(self) -> list[int]:
        """Those of the nodes, without the head's."""
        return cast("list[int]", self.tell("raylets"))

    def kill_head(self) -> None:
        """Kills the head's GCS and all raylets at once."""
        for pid in cast("list[int]", self.tell("all")):
            os.kill(pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """Ends the cluster."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        """Ends it in order, and removes its files."""
        if self._process is not None:
            self._process.communicate("", timeout=60)
            self._process = None
        self.directory.cleanup()

    def tell(self, *words: object) -> object:
        """Has the cluster's process carry out a command."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> object:
        assert self._process is not None
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("answer "):
            assert line, (Path(self.directory.name) / "stderr").read_text()
        return json.loads(line.removeprefix("answer "))


@contextmanager
def launching(directory: Path, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """With TUNESMITH_TEST_RAY=1 a cluster until the block ends, and the variables of a process that trains there.

    `environment`: the variables of that process so far. With a bucket the nodes see no data directory.
    """
    if not os.environ.get(RAY):
        yield {}
        return
    cluster = RayCluster(of_nodes=environment)
    cluster.start()
    try:
        node = {"TUNESMITH_RAY_NODE_DIR": str(directory / "node")} if "TUNESMITH_STORAGE" in environment else {}
        yield {**cluster.environment, "TUNESMITH_LAUNCHER": cluster.address, **node}
    finally:
        cluster.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def _main(directory: str, port: int, client_port: int) -> None:
    from ray._private.utils import get_ray_address_file  # type: ignore[attr-defined]
    from ray.cluster_utils import Cluster

    # A cluster's address is written there too, whatever its temp_dir; on a new machine the folder is missing.
    Path(get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)
    head = {
        "num_cpus": HEAD_CPUS,
        "gcs_server_port": port,
        "ray_client_server_port": client_port,
        "include_dashboard": False,
        "temp_dir": directory,
        "object_store_memory": STORE_BYTES,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = {}
    _say(cluster.address)
    for line in sys.stdin:
        command, *rest = json.loads(line)
        if command == "add":
            node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            pid = _pids(node, "raylet")[0]
            nodes[pid] = node
            _say(pid)
        elif command == "raylets":
            _say(list(nodes))
        elif command == "forget":
            cluster.remove_node(nodes.pop(rest[0]), allow_graceful=False)
            _say(None)
        elif command == "all":
            _say([*_pids(cluster.head_node, "gcs_server"), *_pids(cluster.head_node, "raylet"), *nodes])
    close: Callable[[], None] = cluster.shutdown
    close()


def _pids(node: object, kind: str) -> list[int]:
    return [one.process.pid for one in node.all_processes[kind]]  # type: ignore[attr-defined]


def _say(value: object) -> None:
    print(f"answer {json.dumps(value)}", flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
