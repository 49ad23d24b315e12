"""File rows and their pages."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.databases import settings_over

from tunesmith.settings import Settings
from tunesmith.store import FileRow, JobRow, NewFile, Store, open_store
from tunesmith.store.schema.tables import files


@pytest.fixture(params=["sqlite", "postgresql", "bucket"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_over(request, tmp_path)


def add(store: Store, name: str = "rows.jsonl", **values: object) -> FileRow:
    new = NewFile(purpose="fine-tune", filename=name)
    return store.files.create(store.blobs.write([b"{}"]), replace(new, **values))  # type: ignore[arg-type]


def ids(rows: tuple[FileRow, ...]) -> list[str]:
    return [row.id for row in rows]


def test_a_file_comes_back_as_it_was_stored(store: Store) -> None:
    row = add(store, report={"ok": True, "text": "\ud800 ☃"}, expires_at=2**33)
    assert store.files.get(row.id) == row
    assert (row.status, row.bytes, row.purpose) == ("uploaded", 2, "fine-tune")
    assert store.files.report(row.id) == {"ok": True, "text": "\ud800 ☃"}


@pytest.mark.parametrize("name", ["天气.jsonl", "a\0b", "\ud800", "../../etc/passwd", "x" * 5000, ""])
def test_any_name_is_stored_as_text(store: Store, name: str) -> None:
    row = add(store, name)
    assert row.filename == name.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert store.files.get(row.id) == row


def test_pages_are_newest_first_and_end(store: Store) -> None:
    rows = [add(store, str(number)) for number in range(5)]
    newest = ids(tuple(reversed(rows)))
    first = store.files.page(limit=2)
    assert (ids(first.data), first.has_more) == (newest[:2], True)
    second = store.files.page(limit=2, after=newest[1])
    assert (ids(second.data), second.has_more) == (newest[2:4], True)
    last = store.files.page(limit=2, after=newest[3])
    assert (ids(last.data), last.has_more) == (newest[4:], False)


def test_pages_can_be_oldest_first(store: Store) -> None:
    rows = [add(store, str(number)) for number in range(3)]
    page = store.files.page(order="asc", after=rows[0].id)
    assert ids(page.data) == [rows[1].id, rows[2].id]


def test_a_loop_that_deletes_what_it_lists_sees_every_file(store: Store) -> None:
    rows = [add(store, str(number)) for number in range(5)]
    seen: list[str] = []
    page = store.files.page(limit=1)
    while page.data:
        seen += ids(page.data)
        assert store.files.delete(seen[-1])
        page = store.files.page(limit=1, after=seen[-1])
    assert seen == [row.id for row in reversed(rows)]


def test_an_unknown_cursor_gives_an_empty_page(store: Store) -> None:
    add(store)
    assert store.files.page(after="file-unknown", limit=0) == store.files.page(after="after")
    assert store.files.page(after="after").data == ()


def test_a_limit_of_zero_says_that_there_is_more(store: Store) -> None:
    add(store)
    page = store.files.page(limit=0)
    assert (page.data, page.has_more) == ((), True)


def test_purposes_are_told_apart(store: Store) -> None:
    add(store)
    result = add(store, purpose="fine-tune-results")
    assert ids(store.files.page(purpose="fine-tune-results").data) == [result.id]


def test_a_deleted_file_is_gone_with_its_bytes_but_known_as_deleted(store: Store) -> None:
    row = add(store)
    assert store.files.delete(row.id)
    assert store.files.get(row.id) is None
    assert store.files.page().data == ()
    assert not store.blobs.path(row.id).exists()
    assert not store.files.delete(row.id)
    with store.database.read() as connection:
        kept = connection.execute(select(files.c.deleted_at, files.c.filename).where(files.c.id == row.id)).one()
    assert kept.deleted_at is not None
    assert kept.filename == ""


def test_an_expired_file_is_gone_at_once_and_swept_later(store: Store) -> None:
    row = add(store, expires_at=int(time.time()) - 1)
    assert store.files.get(row.id) is None
    assert store.blobs.path(row.id).exists()
    assert store.files.sweep() == 1
    assert not store.blobs.path(row.id).exists()


def test_the_check_sets_status_report_and_details(store: Store) -> None:
    row = add(store)
    assert store.files.unchecked() == [row]
    checked = store.files.set_status(row.id, "error", details="line 3", report={"ok": False})
    assert checked is not None
    assert (checked.status, checked.status_details) == ("error", "line 3")
    assert store.files.report(row.id) == {"ok": False}
    assert store.files.unchecked() == []


def test_a_check_of_a_deleted_file_changes_nothing(store: Store) -> None:
    row = add(store)
    store.files.delete(row.id)
    assert store.files.set_status(row.id, "processed") is None


def test_files_survive_a_new_start(store: Store, store_settings: Settings) -> None:
    row = add(store)
    again = open_store(store_settings)
    assert again.files.get(row.id) == row
    assert again.blobs.path(row.id).read_bytes() == b"{}"
    again.close()


@pytest.mark.parametrize("use", ["training_file", "validation_file"])
def test_a_file_that_expires_under_a_job_stays_until_that_has_ended(
    store: Store, make_job: Callable[..., JobRow], use: str
) -> None:
    row, idle = add(store), add(store, expires_at=1)
    job = make_job(**{use: row.id})
    with store.database.write() as connection:
        connection.execute(update(files).where(files.c.id == row.id).values(expires_at=1))
    assert store.files.get(row.id) is None
    assert store.files.expire() == 1
    assert not store.blobs.path(idle.id).exists()
    kept = store.files.for_job(row.id)
    assert kept is not None
    assert store.blobs.path(row.id).read_bytes() == b"{}"
    store.jobs.cancel(job.id)
    assert store.files.expire() == 1
    assert store.files.for_job(row.id) is None
    assert not store.blobs.path(row.id).exists()


def test_a_deleted_file_is_not_there_for_a_job_either(store: Store, make_job: Callable[..., JobRow]) -> None:
    row = add(store)
    make_job(training_file=row.id)
    store.files.delete(row.id)
    assert store.files.for_job(row.id) is None
