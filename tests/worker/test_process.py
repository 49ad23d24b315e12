"""The worker process beside the API: it is started again when it dies, and ends with whoever started it."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tunesmith.settings import Settings
from tunesmith.worker import process as process_module
from tunesmith.worker.process import WorkerProcess

PARENT = """
import sys, time
from pathlib import Path
from tunesmith.settings import Settings
from tunesmith.worker.process import WorkerProcess
worker = WorkerProcess(Settings(data_dir=Path(sys.argv[1])))
worker.start()
print(worker.pid, flush=True)
time.sleep(60)
"""


def wait(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_killed_worker_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "RESTART_SECONDS", 0.1)
    worker = WorkerProcess(Settings(data_dir=tmp_path))
    worker.start()
    first = worker.pid
    assert first is not None
    wait((tmp_path / "tunesmith.db").exists)  # it has its settings and works
    psutil.Process(first).kill()
    wait(lambda: worker.pid != first)
    second = worker.pid
    assert second is not None
    worker.stop()
    assert gone(second)


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait((tmp_path / "tunesmith.db").exists)
        parent.kill()
    wait(lambda: gone(pid))
