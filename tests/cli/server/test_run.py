"""What a server says and when it stops: log lines, idleness."""

import io
import re
import sys
from pathlib import Path

import pytest
import structlog

from tunesmith.cli.commands.serve import ServeCommand
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.server.run import ServeOptions, set_log_level
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import NewJob, open_store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(data_dir=tmp_path / "data", base_model="smollm2-135m-instruct")


class Terminal(io.StringIO):
    """A stderr that says it is a terminal, or not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def test_server_without_a_worker_is_not_announced() -> None:
    assert ServeCommand().server_options() == ServeOptions(True, None, None, True)
    alone = ServeCommand(worker=False, exit_when_idle=5, ready_file=Path("ready"))
    assert alone.server_options() == ServeOptions(False, 5, Path("ready"), False)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_log_has_one_line_an_event_and_request_ids_in_a_file(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    stream = Terminal(is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    set_log_level("info")
    log = structlog.get_logger()
    log.info("request", method="POST", path="/v1/files", status=200, ms=3, request_id="req-1")
    log.info("training", job="ftjob-1")
    log.debug("unseen")
    lines = stream.getvalue().splitlines()
    assert [("POST /v1/files 200" in line, "training" in line) for line in lines] == [(True, False), (False, True)]
    assert ("req-1" in lines[0]) != is_terminal
    assert all(("\x1b[" in line) == is_terminal for line in lines)
    time = r"\d\d:\d\d:\d\d" if is_terminal else r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert all(re.match(rf"(\x1b\[\d+m)*{time}\b", line) for line in lines), lines


def test_log_of_an_error_keeps_its_request_id_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal(True))
    set_log_level("info")
    structlog.get_logger().error("unexpected fault", request_id="req-1")
    assert "req-1" in stream.getvalue()


def test_log_level_of_another_name_is_refused() -> None:
    with pytest.raises(CommandError, match="'loud' is not a log level; use debug, info, warning or error") as raised:
        set_log_level("loud")
    assert raised.value.exit_code == Exit.USAGE


def test_only_jobs_that_a_worker_takes_keep_an_idle_server(settings: Settings) -> None:
    store = open_store(settings)
    assert not store.jobs.any_to_do()
    method: JsonObject = {"type": "supervised", "supervised": {"hyperparameters": {}}}
    job = store.jobs.create(NewJob("base", "base", "file-1", "me", 1, {}, method))
    assert store.jobs.any_to_do()
    store.jobs.pause(job.id)
    assert not store.jobs.any_to_do()
    store.jobs.resume(job.id)
    assert store.jobs.any_to_do()
    store.jobs.cancel(job.id)
    assert not store.jobs.any_to_do()
    store.close()
