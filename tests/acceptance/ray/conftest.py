"""A cluster, and a worker whose trainers run on it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from tests.acceptance.conftest import environment_of, tiny_settings
from tests.processes import lives
from tests.ray_cluster import RayCluster

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store

__all__ = ["Worker", "trainers"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    made = RayCluster()
    made.start()
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path, base_dir: Path, cluster: RayCluster) -> Settings:
    return tiny_settings(tmp_path, base_dir, lease_seconds=3, train_threads=1, launcher=cluster.address)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(settings)
    yield opened
    opened.close()


@dataclass(slots=True)
class Worker:
    """A worker that is killed and started again."""

    settings: Settings
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    def start(self) -> None:
        command = [sys.executable, "-m", "tunesmith.worker"]
        environment = os.environ | self.environment | environment_of(self.settings)
        self.process = subprocess.Popen(command, env=environment)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture
def worker(settings: Settings, cluster: RayCluster) -> Iterator[Worker]:
    made = Worker(settings, cluster.environment)
    made.start()
    yield made
    made.stop()


def trainers(job_id: str) -> list[psutil.Process]:
    """The trainers of a job that live, wherever they run."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "tunesmith.train" in words and any(job_id in word for word in words) and lives(process):
            found.append(process)
    return found


def eventually(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
