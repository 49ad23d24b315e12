"""What the launcher promises: a trainer never outlives its worker, never runs twice, and yields the processor."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.launch import child
from tunesmith.launch.child import ChildLauncher, ChildTrainer
from tunesmith.launch.output import LineReader
from tunesmith.launch.protocol import Start

WORKER = """
import sys, time
from pathlib import Path
from tunesmith.launch.child import ChildLauncher
from tunesmith.launch.protocol import Start
root = Path(sys.argv[1])
trainer = ChildLauncher("scripted_trainer").start(Start(root / "spec", root / "events", root / "log", root / "lock"))
print(trainer.process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path: Path, script: Callable[..., None]) -> Start:
    script(steps=1000, seconds=0.02)
    (tmp_path / "spec").write_text(json.dumps({"output_dir": str(tmp_path)}))
    return Start(tmp_path / "spec", tmp_path / "events", tmp_path / "log", tmp_path / "lock", nice=7)


@pytest.fixture
def trainer(start: Start) -> Iterator[ChildTrainer]:
    running = ChildLauncher("scripted_trainer").start(start)
    yield running
    running.stop()


def wait(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines(path: Path) -> list[JsonObject]:
    return list(LineReader(path).read())


@pytest.mark.skipif(sys.platform != "linux", reason="a policy of Linux")
def test_an_idle_trainer_takes_only_what_others_leave(start: Start) -> None:
    running = ChildLauncher("scripted_trainer").start(replace(start, idle=True))
    try:
        wait(lambda: os.sched_getscheduler(running.process.pid) == os.SCHED_IDLE)
    finally:
        running.stop()


def test_a_trainer_writes_events_to_a_file_at_low_priority(trainer: ChildTrainer, start: Start) -> None:
    wait(lambda: len(lines(start.events)) > 3)
    assert lines(start.events)[0]["type"] == "started"
    assert psutil.Process(trainer.process.pid).nice() == os.nice(0) + 7
    if sys.platform == "linux":
        assert Path(f"/proc/{trainer.process.pid}/oom_score_adj").read_text() == "500\n"
    assert trainer.poll() is None


def test_a_stopped_trainer_has_ended(trainer: ChildTrainer, start: Start) -> None:
    wait(lambda: len(lines(start.events)) > 3)
    trainer.stop()
    assert trainer.poll() == 143
    trainer.stop()  # again: nothing happens


def test_a_trainer_that_ignores_sigterm_is_killed(
    start: Start, script: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STOP_SECONDS", 0.5)
    script(steps=1000, seconds=0.02, deaf=True)
    trainer = ChildLauncher("scripted_trainer").start(start)
    wait(lambda: len(lines(start.events)) > 3)
    trainer.stop()
    assert trainer.poll() == -signal.SIGKILL


def test_a_trainer_dies_with_its_killed_worker(start: Start, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        wait(lambda: len(lines(start.events)) > 3)
        worker.kill()
    wait(lambda: _gone(pid), 5)


def _gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_two_trainers_never_run_on_one_job(trainer: ChildTrainer, start: Start, tmp_path: Path) -> None:
    wait(lambda: len(lines(start.events)) > 3)
    second = ChildLauncher("scripted_trainer").start(
        Start(start.spec, tmp_path / "events-2", tmp_path / "log-2", start.lock)
    )
    time.sleep(0.5)
    assert second.poll() is None
    assert lines(tmp_path / "events-2") == []
    trainer.stop()
    wait(lambda: lines(tmp_path / "events-2"))
    second.stop()


IMPATIENT = """
import sys
import tunesmith.launch.__main__ as launch
launch.LOCK_SECONDS = 1.0
launch.main(sys.argv[1:])
"""


def impatient(start: Start, tmp_path: Path) -> "subprocess.Popen[bytes]":
    """A second trainer of the job, which waits a second for the first."""
    command = [sys.executable, "-c", IMPATIENT, "scripted_trainer", str(start.spec), str(start.lock), "0", "share"]
    with (tmp_path / "events-2").open("ab") as stdout:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, start_new_session=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process started")
def test_a_stopped_trainer_is_killed_by_the_next_of_its_job(
    trainer: ChildTrainer, start: Start, tmp_path: Path
) -> None:
    wait(lambda: len(lines(start.events)) > 3, 60)
    os.kill(trainer.process.pid, signal.SIGSTOP)
    second = impatient(start, tmp_path)
    try:
        wait(lambda: len(lines(tmp_path / "events-2")) > 3, 60)
        assert trainer.process.wait(10) == -signal.SIGKILL
        said = [str(line["message"]) for line in lines(tmp_path / "events-2") if line["type"] == "log"]
        assert said[0] == "An earlier trainer of this job had not ended after 1 s. It was killed."
    finally:
        second.kill()
        second.communicate()


@pytest.mark.parametrize("known_as", ["", "elsewhere boot {pid} 1", "nonsense"], ids=["none", "elsewhere", "nonsense"])
def test_a_trainer_waits_for_one_that_it_cannot_know_and_does_not_end(
    trainer: ChildTrainer, start: Start, tmp_path: Path, known_as: str
) -> None:
    wait(lambda: len(lines(start.events)) > 3, 60)
    start.lock.write_text(known_as.format(pid=trainer.process.pid))
    second = impatient(start, tmp_path)
    try:
        wait(lambda: lines(tmp_path / "events-2"), 60)
        assert "training waits for its end" in str(lines(tmp_path / "events-2")[0]["message"])
        assert (second.poll(), trainer.poll()) == (None, None)
        trainer.stop()
        wait(lambda: len(lines(tmp_path / "events-2")) > 3, 60)
    finally:
        second.kill()
        second.communicate()
