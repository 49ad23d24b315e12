"""The store as one object: what a request gets of it, and what is removed from time to time."""

import dataclasses
import time
from collections.abc import Callable

import pytest
from sqlalchemy import update

from tunesmith.settings import Settings
from tunesmith.store import ChatRow, CreateRequest, JobRow, NewFile, NewJob, NewUpload, ScopedStore, Store, open_store
from tunesmith.store.objects.idempotency import KEEP_SECONDS
from tunesmith.store.schema.tables import create_requests

UPLOAD = NewUpload("a.jsonl", "fine-tune", 3, "text/jsonl", project="mine")


def test_a_request_has_no_way_to_other_projects(store: Store) -> None:
    scoped = store.of("mine")
    assert isinstance(scoped, ScopedStore)
    assert not isinstance(scoped, Store)
    whole = {field.name for field in dataclasses.fields(Store)}
    here = {field.name for field in dataclasses.fields(ScopedStore)}
    assert whole - here == {"queue", "run_queue", "imports", "sessions", "limits", "leases", "database"}
    assert not hasattr(scoped, "of")


def test_every_list_of_a_scoped_store_is_its_projects(store: Store, make_job: Callable[..., JobRow]) -> None:
    file = store.files.create(store.blobs.write([b"x"]), NewFile("user_data", "a", project="mine"))
    job = make_job(project="mine")
    store.chats.add(ChatRow("chatcmpl-1", "base", "base", 1, {}, (), {}, "mine"))
    upload = store.uploads.create(UPLOAD, seconds=60)
    mine, others = store.of("mine"), store.of("others")
    assert [row.id for row in mine.files.page().data] == [file.id]
    assert [row.id for row in mine.jobs.page().data] == [job.id]
    assert [row.id for row in mine.chats.page().data] == ["chatcmpl-1"]
    assert mine.uploads.get(upload.id) == upload
    assert [others.files.page().data, others.jobs.page().data, others.chats.page().data] == [(), (), ()]
    assert others.uploads.get(upload.id) is None
    assert others.files.report(file.id) is None
    assert others.files.for_job(file.id) is None


def test_expire_removes_files_parts_and_old_requests(store: Store) -> None:
    store.files.create(store.blobs.write([b"x"]), NewFile("user_data", "a", expires_at=int(time.time()) - 1))
    ended = store.uploads.create(UPLOAD, seconds=60)
    store.uploads.add_part(ended.id, [b"abc"], room=10)
    store.uploads.cancel(ended.id)
    request = CreateRequest("job", "default", "key", "body", idempotency_key="mine")
    new = NewJob("base", "base", "file-x", "acme", 1, {}, {"type": "supervised"})
    job = store.jobs.create(new, request)
    assert store.jobs.create(new, request).id == job.id
    assert store.expire() == 1  # the file; the upload's parts went with its cancellation
    with store.database.write() as connection:
        connection.execute(update(create_requests).values(created_at=int(time.time()) - KEEP_SECONDS - 1))
    assert store.expire() == 1
    assert store.expire() == 0
    assert store.jobs.create(new, request).id != job.id


def test_a_closed_store_can_be_opened_again(store: Store, store_settings: Settings) -> None:
    file = store.files.create(store.blobs.write([b"x"]), NewFile("user_data", "a"))
    store.close()
    store.close()
    again = open_store(store_settings)
    assert again.files.get(file.id) == file
    again.close()


@pytest.mark.parametrize("file_id", ["../tunesmith.db", "file-short", "file-" + "é" * 20, ""])
def test_an_id_of_another_shape_is_never_a_path(store: Store, file_id: str) -> None:
    assert store.files.get(file_id) is None
    assert not store.files.delete(file_id)
    with pytest.raises(Exception, match="No such File object"):
        store.blobs.path(file_id)


def test_a_scoped_store_neither_checks_files_nor_finds_adapters_of_others(
    store: Store, make_job: Callable[..., JobRow]
) -> None:
    file = store.files.create(store.blobs.write([b"x"]), NewFile("fine-tune", "a", project="mine"))
    mine, others = store.of("mine"), store.of("others")
    assert [row.id for row in mine.files.unchecked()] == [file.id]
    assert others.files.unchecked() == []
    assert others.files.set_status(file.id, "processed") is None
    assert store.files.set_status(file.id, "processed") is not None
