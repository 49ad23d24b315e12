"""Following a job: every event once and in order, servers that go away, and what is said at the end."""

import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import typer
from tests.cli.output.conftest import Printed, words
from tests.cli.scripted_server import ScriptedServer, scripted

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output import watch as watching
from tunesmith.cli.output.job_views import Clock, LiveBar, PlainLines
from tunesmith.cli.output.watch import conclude, follow, watch, watch_to_end
from tunesmith.cli.server.find import Connection
from tunesmith.client import Client, Event, Job, ServerRefused, ServerUnreachable

JOB_ROUTE, EVENT_ROUTE = "GET /v1/fine_tuning/jobs/ftjob-1", "GET /v1/fine_tuning/jobs/ftjob-1/events"
SUCCEEDED = {"status": "succeeded", "fine_tuned_model": "ft:base::[x]", "finished_at": 130, "trained_tokens": 7176}


def job(**values: object) -> dict[str, object]:
    fields = {"id": "ftjob-1", "model": "base", "status": "running", "created_at": 5, "training_file": "file-1"}
    return {**fields, **values}


def event(number: int, **values: object) -> dict[str, object]:
    return {"id": f"ftevent-{number}", "created_at": number, "level": "info", "message": f"event {number}", **values}


def metrics(step: int, total: int, **data: object) -> Event:
    return Event.read(event(step, type="metrics", data={"step": step, "total_steps": total, **data}))


def page(*numbers: int, more: bool = False) -> dict[str, object]:
    """Events as the server lists them: newest first."""
    return {"data": [event(number) for number in sorted(numbers, reverse=True)], "has_more": more}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    with scripted() as server:
        yield server


@pytest.fixture
def client(script: ScriptedServer) -> Iterator[Client]:
    opened = Client(script.base_url, "key")
    yield opened
    opened.close()


def test_every_event_comes_once_and_oldest_first(script: ScriptedServer, client: Client) -> None:
    script.answer(JOB_ROUTE, job(status="queued"), job(), job(**SUCCEEDED))
    script.answer(EVENT_ROUTE, page(1, 2), page(1, 2, 3), page(2, 3, 4, 5))
    followed = [(found.status, [one.created_at for one in events]) for found, events in follow(client, "ftjob-1")]
    assert followed == [("queued", [1, 2]), ("running", [3]), ("succeeded", [4, 5])]


def test_burst_of_events_between_two_polls_is_read_to_the_last_known_one(
    script: ScriptedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "RECENT", 2)
    script.answer(JOB_ROUTE, job(), job(**SUCCEEDED))
    script.answer(EVENT_ROUTE, page(1), page(7, 8, more=True), page(*range(1, 9)))
    followed = [[one.created_at for one in events] for _, events in follow(client, "ftjob-1")]
    assert followed == [[1], list(range(2, 9))]
    assert [asked.rpartition("limit=")[2] for asked in script.asked if "events" in asked] == ["2", "2", "8"]


def test_server_that_comes_back_is_followed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    with scripted() as first:
        first.answer(JOB_ROUTE, job())
        first.answer(EVENT_ROUTE, page(1))
        port = first.port
        client = Client(first.base_url, "key")
        followed = follow(client, "ftjob-1")
        assert next(followed)[0].status == "running"
    back = threading.Event()
    found: list[Job] = []

    def go_on() -> None:
        found.extend(one for one, _ in followed)
        back.set()

    threading.Thread(target=go_on, daemon=True).start()
    assert not back.wait(0.2)  # nobody answers, and it waits
    with scripted(port) as second:
        second.answer(JOB_ROUTE, job(**SUCCEEDED))
        second.answer(EVENT_ROUTE, page(1, 2))
        assert back.wait(10)
    client.close()
    assert [one.status for one in found] == ["succeeded"]


def test_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.1)
    started = time.monotonic()
    with pytest.raises(ServerUnreachable):
        list(follow(Client("http://127.0.0.1:9", "key"), "ftjob-1"))
    assert time.monotonic() - started >= 0.1


def test_patience_begins_again_with_every_outage(
    script: ScriptedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += 40.0

    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0]))
    down = b"<html>starting</html>"
    script.answer(JOB_ROUTE, down, down, job(), down, down, job(**SUCCEEDED))
    script.answer(EVENT_ROUTE, page())
    assert [found.status for found, _ in follow(client, "ftjob-1")] == ["running", "succeeded"]
    assert watching.PATIENCE_SECONDS == 60  # two outages of 40 s, more than that together


def test_job_that_is_deleted_ends_the_following(script: ScriptedServer, client: Client) -> None:
    with pytest.raises(ServerRefused):
        list(follow(client, "ftjob-1"))
    assert len(script.asked) == 1


def test_json_view_prints_what_the_server_sent(script: ScriptedServer, client: Client, printed: Printed) -> None:
    script.answer(JOB_ROUTE, job(), job(**SUCCEEDED))
    script.answer(EVENT_ROUTE, page(1), page(1, 2))

    def run() -> None:
        last = watch(client, Job.read(job()), as_json=True)
        conclude(last, as_json=True)

    lines = [json.loads(line) for line in printed(80, run).splitlines()]
    assert lines == [event(1), event(2), job(**SUCCEEDED)]


def test_success_names_model_tokens_time_and_next_steps(
    script: ScriptedServer, client: Client, printed: Printed
) -> None:
    script.answer(JOB_ROUTE, job(**SUCCEEDED))
    script.answer(EVENT_ROUTE, page())
    connection = Connection(client, None)
    shown = printed(40, lambda: watch_to_end(connection, Job.read(job()), as_json=False))
    assert "✓ ft:base::[x]" in shown
    assert "trained  7,176 tokens in 2m05s" in shown
    assert "talk to it:  tunesmith chat ft:base::[x]" in words(shown).replace("it: ", "it:  ")
    assert "tunesmith jobs result ftjob-1" in shown


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"status": "cancelled"}, "Job ftjob-1 was cancelled; it left no model."),
        ({"status": "failed", "error": {"message": "Too big."}}, "Job ftjob-1 failed: Too big."),
        ({"status": "failed", "error": {}}, "Job ftjob-1 failed: no reason was given"),
        ({"status": "failed"}, "Job ftjob-1 failed: no reason was given"),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_job_without_a_model_ends_with_code_4(
    printed: Printed, values: dict[str, object], message: str, as_json: bool
) -> None:
    def run() -> None:
        with pytest.raises(CommandError) as raised:
            conclude(Job.read(job(**values)), as_json=as_json)
        assert (raised.value.message, raised.value.exit_code) == (message, Exit.JOB_FAILED)

    shown = printed(80, run)
    assert (json.loads(shown) == job(**values)) if as_json else shown == ""


def test_interrupt_detaches_and_says_how_to_come_back(
    script: ScriptedServer, client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    script.answer(JOB_ROUTE, job())
    script.answer(EVENT_ROUTE, page(1))
    with pytest.raises(typer.Exit) as ended:
        watch_to_end(Connection(client, None), Job.read(job()), as_json=False)
    assert ended.value.exit_code == Exit.INTERRUPTED
    said = capfd.readouterr().err
    assert "Detached; ftjob-1 goes on." in said
    assert "come back:  tunesmith jobs watch ftjob-1" in said
    assert "stop it:    tunesmith jobs cancel ftjob-1" in said


def test_plain_lines_show_every_message_but_only_some_steps(
    printed: Printed, capfd: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        with PlainLines() as view:
            view.show(Event.read(event(0, message="a [word] of note")))
            for step in range(1, 101):
                view.show(metrics(step, 100, train_loss=1.23456))
            view.update(Job.read(job()))
        assert capfd.readouterr().err.splitlines()[:2] == ["a [word] of note", "step 1/100  loss 1.235"]

    assert printed(200, run) == ""


def test_plain_lines_come_every_tenth_of_the_steps(printed: Printed, capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with PlainLines() as view:
            for step in range(1, 101):
                view.show(metrics(step, 100))
        steps = [line.split()[1] for line in capfd.readouterr().err.splitlines()]
        assert steps == [f"{step}/100" for step in (1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100)]

    printed(200, run)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"train_loss": 2}, "loss 2.000"),
        ({"train_loss": 0.5, "valid_loss": 0.25}, "loss 0.500  valid 0.250"),
        ({"train_loss": 0.5, "valid_loss": 0.25, "full_valid_loss": 0.125}, "loss 0.500  valid 0.125"),
        ({"train_loss": None}, ""),
    ],
)
def test_line_of_a_step_has_the_numbers_that_are_known(
    printed: Printed, capfd: pytest.CaptureFixture[str], data: dict[str, object], shown: str
) -> None:
    def run() -> None:
        with PlainLines() as view:
            view.show(metrics(1, 5, **data))
        assert capfd.readouterr().err == f"step 1/5  {shown}".rstrip(" ") + ("\n" if shown else "  \n")

    printed(200, run)


def test_live_bar_shows_state_steps_loss_and_warnings(
    printed: Printed, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    def run() -> None:
        with LiveBar() as view:
            view.update(Job.read(job(status="validating_files")))
            view.progress.refresh()
            view.show(Event.read(event(1, level="warn", message="rows were [cut]")))
            view.update(Job.read(job()))
            view.progress.refresh()
            view.show(metrics(3, 12, train_loss=1.5))
            view.update(Job.read(job()))
        said = capfd.readouterr().err
        assert "checking" in said
        assert "\x1b[33mrows were [cut]\x1b[0m" in said
        assert "starting the trainer" in said
        assert "0/?" not in said
        assert said.index("training") > said.index("starting the trainer")
        assert "3/12" in said
        assert "loss 1.500" in said

    assert printed(100, run) == ""


def test_clock_extrapolates_from_the_first_step_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert clock.left(10, 50, 1000) is None
    assert clock.left(12, 50, 1000) is None  # a burst of steps: no pace to be told from no time
    now[0] = 104.0
    assert clock.left(10, 50, 1004) is None  # no step since
    assert clock.left(12, 50, 1004) == pytest.approx(2.0 * 38)
    now[0] = 110.0
    assert clock.left(50, 50, 1010) == 0


def test_steps_made_before_the_watching_are_counted_by_the_servers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert clock.left(1, 90, 1000) is None
    assert clock.left(61, 90, 1180) == pytest.approx(3.0 * 29)  # 60 steps in 180 s, all seen at once
    now[0] = 103.0
    assert clock.left(62, 90, 1183) == pytest.approx(3.0 * 28)
