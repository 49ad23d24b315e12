"""Checks that another server has begun, or has left behind."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from tunesmith.api.background import file_checks
from tunesmith.api.background.file_checks import FileChecks
from tunesmith.settings import Settings
from tunesmith.store import FileRow, NewFile, Store
from tunesmith.store.objects.files import FileStore
from tunesmith.store.schema.server_tables import work_leases
from tunesmith.store.schema.tables import files
from tunesmith.store.scope import EVERYBODY
from tunesmith.store.storage.bucket import StorageDamaged


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


class Failing(FileStore):
    """Files whose bytes cannot be had: at first for want of room on the disk."""

    faults: list[Exception]

    def held(self, file_id: str) -> AbstractContextManager[Path]:
        if self.faults:
            raise self.faults.pop(0)
        return super().held(file_id)


@pytest.fixture
def failing(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Exception], FileChecks]]:
    """Checks on a server where the next file cannot be fetched."""
    monkeypatch.setattr(file_checks, "LEFT_SECONDS", 0.05)
    monkeypatch.setattr(file_checks, "RETRY_SECONDS", 0.05)
    made: list[FileChecks] = []

    def start(error: Exception) -> FileChecks:
        files = Failing(store.database, store.blobs, EVERYBODY)
        files.faults = [error]
        made.append(FileChecks(replace(store, files=files), settings))
        made[0].start()
        return made[0]

    yield start
    made[0].stop()


def test_a_disk_without_room_does_not_end_all_checks(
    failing: Callable[[Exception], FileChecks], store: Store, left: Callable[[int], FileRow]
) -> None:
    file = left(60)
    failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert status(store, file, 20.0) == "processed"


def test_a_file_whose_bytes_are_damaged_says_so_and_others_are_checked(
    failing: Callable[[Exception], FileChecks], store: Store, left: Callable[[int], FileRow]
) -> None:
    damaged = left(90)
    failing(StorageDamaged("The bytes are not those that were stored. Upload it again."))
    assert status(store, damaged, 20.0) == "error"
    row = store.files.get(damaged.id)
    assert row is not None
    assert row.status_details == "The bytes are not those that were stored. Upload it again."
    assert status(store, left(60), 20.0) == "processed"
