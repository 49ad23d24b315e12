"""What a job says of harmful rows and of leaks, and when it refuses to train on them."""

import json
from collections.abc import Callable

import pytest
from tests.moderation.servers import scripted
from tests.worker.conftest import Submit, WaitFor, Workers, finished

from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import JobRow, JobStatus, Store
from tunesmith.store.rows import EventRow

pytestmark = pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)


def rows(*answers: str) -> bytes:
    lines = (
        {
            "messages": [
                {
                    "role": "user",
                    "content": f"What do you say to visitor number {number} of the museum in the afternoon?",
                },
                {"role": "assistant", "content": answer},
            ]
        }
        for number, answer in enumerate(answers)
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


KIND = [f"Welcome, guest of hall {number}, and mind the {'steps ' * (number % 3 + 1)}!" for number in range(11)]
HARMFUL = rows(*KIND, "You are such a stupid idiot.")


@pytest.fixture
def run(
    store: Store, store_settings: Settings, submit: Submit, wait_for: WaitFor, script: object
) -> Callable[..., JobRow]:
    """Runs one job to its end under changed settings."""

    def train(content: bytes, validation: bytes | None = None, **changes: object) -> JobRow:
        job = submit(content, validation)
        workers = Workers(store, store_settings.model_copy(update=changes))
        workers.start()
        try:
            return wait_for(job, finished)
        finally:
            workers.stop()

    return train


def flagged_rows(event: EventRow) -> list[JsonObject]:
    """The rows that an event about the file's content lists."""
    assert event.data is not None
    listed = event.data["flagged"]
    assert isinstance(listed, list)
    return [row for row in listed if isinstance(row, dict)]


def checks(store: Store, job: JobRow) -> list[EventRow]:
    return [event for event in store.jobs.events(job.id, limit=100).data if event.type == "moderation_checks"]


def test_flagged_row_is_an_event_and_the_job_goes_on(store: Store, run: Callable[..., JobRow]) -> None:
    job = run(HARMFUL)
    assert job.status is JobStatus.SUCCEEDED
    (event,) = checks(store, job)
    assert event.level == "warn"
    assert "flagged 1 row of 12 (harassment 1)" in event.message
    (flagged,) = flagged_rows(event)
    assert (flagged["line"], flagged["path"], flagged["categories"]) == (12, "messages[1].content", ["harassment"])
    assert "idiot" not in json.dumps(event.data)


def test_unflagged_file_gives_no_event(store: Store, run: Callable[..., JobRow]) -> None:
    assert checks(store, run(rows(*KIND))) == []


def test_text_that_was_not_read_is_an_event(store: Store, run: Callable[..., JobRow]) -> None:
    (event,) = checks(store, run(rows(*KIND[:-1], "欢迎来到博物馆，请小心台阶。")))
    assert event.level == "info"
    assert "1 row holds text it cannot read" in event.message


def test_off_says_nothing(store: Store, run: Callable[..., JobRow]) -> None:
    job = run(HARMFUL, moderation="off")
    assert (job.status, checks(store, job)) == (JobStatus.SUCCEEDED, [])


def test_block_refuses_the_job(run: Callable[..., JobRow]) -> None:
    job = run(HARMFUL, moderation="block")
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["param"]) == ("training_data_flagged", "training_file")
    assert "line 12" in str(job.error["message"])


def test_service_that_is_down_stops_the_job_only_in_block(store: Store, run: Callable[..., JobRow]) -> None:
    with scripted(lambda number, body: (401, {"error": "no key"}, {})) as server:
        warned = run(rows(*KIND), moderation="warn", moderation_url=server.url)
        blocked = run(rows(*KIND), moderation="block", moderation_url=server.url)
    assert warned.status is JobStatus.SUCCEEDED
    (event,) = checks(store, warned)
    assert event.level == "warn"
    assert "401" in event.message
    assert blocked.status is JobStatus.FAILED
    assert blocked.error is not None
    assert blocked.error["code"] == "moderation_unavailable"


def test_leak_into_the_validation_file_is_an_event(store: Store, run: Callable[..., JobRow]) -> None:
    validation = rows(*["Something quite different for each guest, told at length and with care."] * 1, KIND[1])
    job = run(rows(*KIND), validation)
    assert job.status is JobStatus.SUCCEEDED
    (event,) = [
        event for event in store.jobs.events(job.id, limit=100).data if "validation loss will look" in event.message
    ]
    assert event.level == "warn"
    assert "1 of the 2 rows" in event.message
    assert "the first is line 2, line 2 of the training file" in event.message
    assert event.data is not None
    assert event.data["exact"] == 1
