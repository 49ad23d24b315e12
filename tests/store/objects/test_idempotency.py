"""The same request sent twice makes one object."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import update

from tunesmith.errors import InvalidRequest
from tunesmith.store import CreateRequest, FileRow, JobRow, NewFile, NewJob, NewUpload, Store
from tunesmith.store.objects.idempotency import KEEP_SECONDS, RETRY_SECONDS, Kind
from tunesmith.store.schema.tables import create_requests

JOB = NewJob("base", "base", "file-" + "0" * 24, "acme", 1, {}, {"type": "supervised"})
FIRST = CreateRequest("job", "default", "key_1", "body")
RETRY = replace(FIRST, is_retry=True)
KEYED = replace(FIRST, idempotency_key="mine")


def upload_file(store: Store, attempt: CreateRequest) -> FileRow:
    return store.files.create(store.blobs.write([b"x"]), NewFile(purpose="fine-tune", filename="a"), attempt)


def begin_upload(store: Store, attempt: CreateRequest) -> str:
    upload = NewUpload("a", "fine-tune", 3, "text/jsonl")
    return store.uploads.create(upload, seconds=60, request=attempt).id


MAKERS: dict[Kind, Callable[[Store, CreateRequest], str]] = {
    "job": lambda store, attempt: store.jobs.create(JOB, attempt).id,
    "file": lambda store, attempt: upload_file(store, attempt).id,
    "upload": begin_upload,
}


def make_older(store: Store, seconds: int) -> None:
    with store.database.write() as connection:
        connection.execute(update(create_requests).values(created_at=int(time.time()) - seconds))


def test_a_repetition_within_a_minute_is_the_same_job(store: Store) -> None:
    first = store.jobs.create(JOB, FIRST)
    assert store.jobs.create(JOB, RETRY) == first
    assert [event.message for event in store.jobs.events(first.id).data] == [f"Created fine-tuning job: {first.id}"]


def test_a_first_attempt_is_always_a_job_of_its_own(store: Store) -> None:
    assert store.jobs.create(JOB, FIRST).id != store.jobs.create(JOB, FIRST).id


@pytest.mark.parametrize("change", [{"fingerprint": "other"}, {"key_id": "key_2"}, {"project": "proj_2"}])
def test_another_body_key_or_project_is_another_job(store: Store, change: dict[str, str]) -> None:
    first = store.jobs.create(JOB, FIRST)
    assert store.jobs.create(JOB, replace(RETRY, **change)).id != first.id  # type: ignore[arg-type]


def test_a_repetition_after_a_minute_is_another_job(store: Store) -> None:
    first = store.jobs.create(JOB, FIRST)
    make_older(store, RETRY_SECONDS + 1)
    assert store.jobs.create(JOB, RETRY).id != first.id


@pytest.mark.parametrize("kind", MAKERS)
def test_a_key_makes_one_object_for_a_day(store: Store, kind: Kind) -> None:
    keyed = replace(KEYED, kind=kind)
    made = MAKERS[kind](store, keyed)
    make_older(store, KEEP_SECONDS - 60)
    assert MAKERS[kind](store, keyed) == made
    assert MAKERS[kind](store, replace(keyed, key_id="key_2")) == made
    assert MAKERS[kind](store, replace(keyed, idempotency_key="another")) != made
    make_older(store, KEEP_SECONDS + 60)
    assert MAKERS[kind](store, keyed) != made


@pytest.mark.parametrize("kind", MAKERS)
def test_a_key_with_another_body_is_refused(store: Store, kind: Kind) -> None:
    keyed = replace(KEYED, kind=kind)
    made = MAKERS[kind](store, keyed)
    with pytest.raises(InvalidRequest, match=f"'mine' was used for another request, which made {made}") as caught:
        MAKERS[kind](store, replace(keyed, fingerprint="other"))
    assert caught.value.code == "idempotency_key_in_use"


def test_one_key_serves_each_kind_of_object(store: Store) -> None:
    assert len({MAKERS[kind](store, replace(KEYED, kind=kind)) for kind in MAKERS}) == len(MAKERS)


@pytest.mark.parametrize("attempt", [KEYED, RETRY])
def test_attempts_at_the_same_time_make_one_job(store: Store, attempt: CreateRequest) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = set(pool.map(lambda _: store.jobs.create(JOB, attempt).id, range(6)))
    assert len(made) == 1
    assert len(store.jobs.page().data) == 1


def test_a_repeated_file_leaves_one_body(store: Store) -> None:
    keyed = replace(KEYED, kind="file")
    first, second = upload_file(store, keyed), upload_file(store, keyed)
    assert first == second
    assert [path.name for path in store.blobs.path(first.id).parent.glob("file-*")] == [first.id]


def test_a_key_whose_file_was_deleted_makes_another(store: Store) -> None:
    keyed = replace(KEYED, kind="file")
    first = upload_file(store, keyed)
    store.files.delete(first.id)
    second = upload_file(store, keyed)
    assert second.id != first.id
    assert upload_file(store, keyed) == second


def test_yesterdays_notes_are_swept(store: Store) -> None:
    job: JobRow = store.jobs.create(JOB, KEYED)
    assert store.expire() == 0
    make_older(store, KEEP_SECONDS + 1)
    assert store.expire() == 1
    assert store.jobs.get(job.id) == job
