"""What the machine lacks for a while, or a process that stands still, fails no job."""

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes import children
from tests.worker.conftest import ONCE, Begin, Script, WaitFor, finished, messages

from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Store
from tunesmith.system import processes
from tunesmith.worker import loop
from tunesmith.worker import process as process_module
from tunesmith.worker.process import WorkerProcess


def wait(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@ONCE
def test_a_job_waits_for_threads_that_the_machine_lacks(
    store: Store, begin: Begin, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SHORTAGE_PAUSE", 0.1)
    script(short=3)
    done = begin(seconds=90)
    said = [text for text in messages(store, done) if "can't start new thread" in text]
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 5)  # checked, three times short, trained
    assert said == [
        "The trainer could not work: RuntimeError: can't start new thread. It is tried again for up to 10 minutes"
    ]


@ONCE
def test_a_job_fails_when_the_shortage_stays(begin: Begin, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHORTAGE_PAUSE", 0.1)
    monkeypatch.setattr(loop, "SHORTAGE_SECONDS", 0.5)
    script(short=1000)
    failed = begin(seconds=90)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert "can't start new thread" in str(failed.error["message"])


@ONCE
def test_a_stopped_trainer_is_killed_and_its_job_goes_on(
    store: Store, begin: Begin, script: Script, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOPPED_SECONDS", 1.0)
    script(steps=12, seconds=0.2)
    job = begin(until=lambda row: row.last_step >= 3, seconds=90)
    (trainer,) = children("scripted_trainer")
    os.kill(trainer.pid, signal.SIGSTOP)
    done = wait_for(job, finished, 90)
    assert done.status is JobStatus.SUCCEEDED
    assert [data["step"] for data in store.jobs.metrics(job.id)] == [*range(1, 13)]


def test_a_worker_that_cannot_be_started_is_tried_again_and_its_absence_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "RESTART_SECONDS", 0.1)
    worker = WorkerProcess(Settings(data_dir=tmp_path))
    worker.start()
    first = worker.pid
    assert first is not None
    wait((tmp_path / "tunesmith.db").exists)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # no descriptor is left for a new process
    try:
        os.kill(first, signal.SIGKILL)
        wait(lambda: worker.fault)
        assert worker.pid is None
        assert worker.fault == "The worker cannot be started: Too many open files."
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    wait(lambda: worker.pid)
    assert worker.fault is None
    worker.stop()


def test_a_stopped_worker_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "RESTART_SECONDS", 0.1)
    monkeypatch.setattr(processes, "STOPPED_SECONDS", 0.5)
    worker = WorkerProcess(Settings(data_dir=tmp_path))
    worker.start()
    first = worker.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    wait(lambda: worker.pid not in (first, None))
    worker.stop()
