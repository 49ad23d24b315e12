"""Waits: what is being done and for how long, on a terminal and in a file."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.cli.output.conftest import Printed
from tests.cli.output.test_watch import job, metrics

from tunesmith.cli.output import job_views, waiting
from tunesmith.cli.output.job_views import Doing, LiveBar, PlainLines
from tunesmith.cli.output.waiting import Waiting
from tunesmith.client import Job
from tunesmith.system import activity


def test_short_wait_says_nothing_without_a_terminal(printed: Printed, capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with Waiting("waiting"):
            time.sleep(0.05)
        assert capfd.readouterr().err == ""

    assert printed(80, run) == ""


def test_long_wait_says_what_is_done_now_and_then_without_control_characters(
    printed: Printed, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK_SECONDS", 0.02), ("FIRST_LINE_SECONDS", 0.1), ("LINE_SECONDS", 0.4)):
        monkeypatch.setattr(waiting, name, seconds)
    doing = iter(["compiling the kernels", "loading the base model"])

    def run() -> None:
        with Waiting("waiting", lambda: next(doing, None)):
            time.sleep(1.2)
        lines = capfd.readouterr().err.splitlines()
        assert lines[:2] == ["compiling the kernels …", "loading the base model …"]
        assert lines[2:] in (["waiting …"], ["waiting … 1s"], [])
        assert "\x1b" not in "".join(lines)

    assert printed(80, run) == ""


def test_wait_at_a_terminal_shows_the_seconds(
    printed: Printed, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.05)

    def run() -> None:
        with Waiting("starting [one]"):
            time.sleep(1.3)
        said = capfd.readouterr().err
        assert "starting [one] …" in said
        assert "starting [one] … 1s" in said

    assert printed(80, run) == ""


def test_error_in_a_wait_ends_its_thread(printed: Printed) -> None:
    def run() -> None:
        with pytest.raises(KeyError), Waiting("waiting"):
            raise KeyError("x")

    printed(80, run)
    assert "waiting" not in [thread.name for thread in threading.enumerate()]


def test_activity_of_another_process_is_read_until_it_ends(tmp_path: Path) -> None:
    code = "import sys; from tunesmith.system.activity import doing\nwith doing('work'): input()"
    environment = {**os.environ, activity.VARIABLE: str(tmp_path)}
    assert activity.current(tmp_path / "nowhere") is None
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=environment) as process:
        deadline = time.monotonic() + 20
        while activity.current(tmp_path) != "work":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert list(tmp_path.iterdir())  # what a killed process told stays, and is not believed
        assert activity.current(tmp_path) is None


def test_inner_work_is_told_before_outer_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(activity.VARIABLE, str(tmp_path))
    with activity.doing("loading"):
        with activity.doing("compiling"):
            assert (activity.here(), activity.current(tmp_path)) == ("compiling", "compiling")
        assert (activity.here(), activity.current(tmp_path)) == ("loading", "loading")
    assert (activity.here(), activity.current(tmp_path)) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_sharing_removes_what_dead_processes_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(activity.VARIABLE, "")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (tmp_path / f"{child.pid}.txt").write_text("old")
    (tmp_path / f"{os.getpid()}.txt").write_text("mine")
    activity.share(tmp_path)
    assert [path.stem for path in tmp_path.iterdir()] == [str(os.getpid())]
    assert os.environ[activity.VARIABLE] == str(tmp_path)


@pytest.mark.parametrize(
    ("values", "ahead", "stepping", "said"),
    [
        ({"status": "validating_files"}, None, False, "checking the files"),
        ({"status": "queued"}, None, False, "queued"),
        ({"status": "queued"}, 0, False, "queued"),
        ({"status": "queued"}, 1, False, "queued behind 1 job"),
        ({"status": "queued", "tunesmith": {"paused": True}}, 2, False, "paused"),
        ({"status": "running"}, None, False, "compiling the kernels"),
        ({"status": "running"}, None, True, "training"),
        ({"status": "succeeded"}, None, True, "succeeded"),
    ],
)
def test_state_of_a_job_in_words(values: dict[str, object], ahead: int | None, stepping: bool, said: str) -> None:
    doing = Doing(lambda: "compiling the kernels")
    assert doing.now(Job.read(job(**values)), ahead, stepping=stepping) == said


def test_state_shows_how_long_it_has_lasted_until_there_are_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    doing, running = Doing(), Job.read(job())
    assert doing.now(running, None, stepping=False) == "starting the trainer"
    now[0] = 112.0
    assert doing.now(running, None, stepping=False) == "starting the trainer … 12s"
    assert doing.now(running, None, stepping=True) == "training"


def test_plain_lines_break_a_long_silence(
    printed: Printed, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def run() -> None:
        with PlainLines(lambda: "loading the base model") as view:
            for second in (0, 5, 11, 15, 22):
                now[0] = 100.0 + second
                view.update(Job.read(job()))
            view.show(metrics(1, 1000, train_loss=2.0))
            view.show(metrics(2, 1000, train_loss=1.0))
            for second in (60, 90):
                now[0] = 100.0 + second
                view.update(Job.read(job()))
        assert [line.split("  ")[:2] for line in capfd.readouterr().err.splitlines()] == [
            ["loading the base model … 11s"],
            ["loading the base model … 22s"],
            ["step 1/1000", "loss 2.000"],
            ["step 2/1000", "loss 1.000"],
            ["step 2/1000", "loss 1.000"],
        ]

    printed(80, run)


def test_after_the_last_step_it_is_not_said_again(
    printed: Printed, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def run() -> None:
        with PlainLines() as view:
            view.show(metrics(2, 2, train_loss=1.0))
            for second in (0, 40, 80):
                now[0] = 100.0 + second
                view.update(Job.read(job()))
        assert capfd.readouterr().err.splitlines() == [
            "step 2/2  loss 1.000",
            "writing and evaluating the model … 40s",
            "writing and evaluating the model … 1m20s",
        ]

    printed(80, run)


def test_bar_fits_into_40_columns(
    printed: Printed, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(job_views, "CLOCK_SECONDS", 0.0)

    def run() -> None:
        with LiveBar(lambda: "compiling the kernels for training (once on this machine)") as view:
            view.update(Job.read(job()))
            view.progress.refresh()
            assert "compiling the kernels" in capfd.readouterr().err

    printed(40, run)
