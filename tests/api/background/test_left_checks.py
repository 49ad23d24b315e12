"""Checks that another server has begun, or has left behind."""

import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import insert, update

from tunesmith.api.background import file_checks
from tunesmith.api.background.file_checks import FileChecks
from tunesmith.settings import Settings
from tunesmith.store import FileRow, NewFile, Store
from tunesmith.store.schema.server_tables import work_leases
from tunesmith.store.schema.tables import files


@pytest.fixture
def checks(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileChecks]:
    """Those of a server that looks every moment for what others have left."""
    monkeypatch.setattr(file_checks, "LEFT_SECONDS", 0.05)
    checks = FileChecks(store, settings)
    checks.start()
    yield checks
    checks.stop()


@pytest.fixture
def left(store: Store, rows: bytes) -> Callable[[int], FileRow]:
    """A file that came to another server so many seconds ago, and was not checked."""

    def make(age: int) -> FileRow:
        row = store.files.create(store.blobs.write([rows]), NewFile(purpose="fine-tune", filename="a.jsonl"))
        with store.database.write() as connection:
            connection.execute(update(files).where(files.c.id == row.id).values(created_at=row.created_at - age))
        return row

    return make


def status(store: Store, file: FileRow, after: float = 0.0) -> str:
    """The file's status, once it is another than `uploaded` or so many seconds have passed."""
    deadline = time.monotonic() + after
    while (row := store.files.get(file.id)) is not None and row.status == "uploaded" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert row is not None
    return row.status


def test_a_file_that_a_lost_server_left_is_checked_by_another(
    checks: FileChecks, store: Store, left: Callable[[int], FileRow]
) -> None:
    young, old = left(0), left(60)
    assert status(store, old, 20.0) == "processed"
    assert status(store, young) == "uploaded"  # the server that it came to checks it at once


def test_a_file_that_another_server_checks_is_left_to_it(
    store: Store, settings: Settings, left: Callable[[int], FileRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks, "LEFT_SECONDS", 0.05)
    file = left(60)
    with store.database.write() as connection:
        until = store.database.clock(connection) + 20
        connection.execute(insert(work_leases).values(name=f"check {file.id}", holder="elsewhere:1:00", until=until))
    checks = FileChecks(store, settings)
    checks.start()
    assert status(store, file, 0.6) == "uploaded"
    with store.database.write() as connection:  # the other one has died
        connection.execute(update(work_leases).values(until=1.0))
    assert status(store, file, 20.0) == "processed"
    checks.stop()
