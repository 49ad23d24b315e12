"""Connections: transactions, faults in the words of an answer, locks between processes, the version of the data."""

import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tunesmith.errors import InvalidRequest, ServiceUnavailable
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.store.schema import db
from tunesmith.store.schema.data_version import DataVersion
from tunesmith.store.schema.db import Database, database_url


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(Settings(data_dir=tmp_path))
    yield opened
    opened.close()


def test_a_reader_sees_one_moment_beside_a_writer(sqlite_store: Store) -> None:
    count = text("SELECT count(*) FROM projects")
    with sqlite_store.database.read() as reader:
        before = reader.execute(count).scalar_one()
        sqlite_store.projects.create("another")  # not held up by the reader, and not seen by it
        assert reader.execute(count).scalar_one() == before
    with sqlite_store.database.read() as reader:
        assert reader.execute(count).scalar_one() == before + 1


def test_reading_does_not_write(sqlite_store: Store) -> None:
    version = sqlite_store.database.data_version.read()
    sqlite_store.projects.page()
    sqlite_store.keys.all()
    assert sqlite_store.database.data_version.read() == version


def test_another_process_that_holds_the_database_too_long_is_a_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.05)
    store = open_store(Settings(data_dir=tmp_path))
    holder = sqlite3.connect(tmp_path / "tunesmith.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceUnavailable, match=r"does not answer\. Try again") as caught:
        store.projects.create("late")
    assert (caught.value.status, caught.value.type) == (503, "service_unavailable_error")
    holder.execute("ROLLBACK")
    holder.close()
    assert store.projects.create("in time").name == "in time"
    store.close()


def test_a_damaged_database_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "tunesmith.db").write_bytes(b"no database, whatever its name says" * 100)
    with pytest.raises(Exception, match="file is not a database"):
        open_store(Settings(data_dir=tmp_path))


def test_threads_that_write_at_once_all_get_their_turn(store: Store) -> None:
    def create(number: int) -> None:
        for turn in range(5):
            store.projects.create(f"{number}-{turn}")

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [row.name for row in store.projects.page(limit=100).data]
    assert sorted(names[:-1]) == sorted(f"{number}-{turn}" for number in range(8) for turn in range(5))


def test_only_one_writer_is_alone(store: Store) -> None:
    """A second transaction that wants the same key waits for the end of the first."""
    order, holds = [], threading.Event()

    def second() -> None:
        holds.wait(10)
        with store.database.write() as connection:
            store.database.advisory_lock(connection, 1)
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.database.write() as connection:
        store.database.advisory_lock(connection, 1)
        holds.set()
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_the_clock_is_near_ours(store: Store) -> None:
    import time

    with store.database.read() as connection:
        assert abs(store.database.clock(connection) - time.time()) < 5


def test_postgresql_without_its_driver_is_a_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidRequest, match=r"pip install 'psycopg\[binary\]'"):
        Database("postgresql+psycopg://me@host/db")


def test_unset_url_is_sqlite_in_the_data_directory(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "a b")
    assert database_url(settings) == f"sqlite:///{tmp_path / 'a b' / 'tunesmith.db'}"
    open_store(settings).close()
    assert (tmp_path / "a b" / "tunesmith.db").is_file()


def test_data_version_changes_with_every_commit_of_anybody(sqlite_store: Store, tmp_path: Path) -> None:
    version = sqlite_store.database.data_version
    seen = [version.read()]
    sqlite_store.projects.create("ours")
    seen.append(version.read())
    with sqlite3.connect(tmp_path / "tunesmith.db") as other:
        other.execute("UPDATE projects SET name = 'theirs'")
    other.close()
    seen.append(version.read())
    assert None not in seen
    assert len(set(seen)) == 3
    assert version.read() == seen[-1]


def test_data_version_of_another_database_or_none_is_unknown(tmp_path: Path) -> None:
    assert DataVersion(None).read() is None
    assert DataVersion(str(tmp_path / "nowhere" / "x.db")).read() is None


def test_postgresql_has_no_cheap_data_version(postgres_url: str, tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path, database_url=postgres_url))
    assert store.database.data_version.read() is None
    store.close()
