"""A database copied from SQLite to PostgreSQL and back, row by row the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.store.conftest import HYPERPARAMETERS

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import JobRow, JobStatus, NewEvent, NewFile, NewJob, Store, open_store
from tunesmith.store.accounts.usage import Account, add_usage
from tunesmith.store.rows import Counts
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.move import move_database
from tunesmith.store.schema.tables import metadata

HARD = (
    "\u202e<b>'\"\\ \n\u0000 \ud800 日本 " + "x" * 3000
)  # as a file's name; the store replaces what PostgreSQL refuses


@pytest.fixture
def there(tmp_path: Path, postgres_url: str) -> Iterator[Store]:
    """A new installation on the other database, without its tables' rows."""
    with opened(Settings(data_dir=tmp_path / "there", database_url=postgres_url)) as store:
        yield store


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def filled(tmp_path: Path, make_job: Callable[..., JobRow], store: Store) -> Store:
    """A store with what a day leaves: files, jobs, events, keys, usage; the newest job is gone."""
    for number in range(3):
        blob = store.blobs.write([b"{}\n"])
        store.files.create(blob, NewFile("fine-tune", HARD if number else "rows.jsonl", "processed"))
    store.keys.create("first")
    make_job(suffix=HARD[:40], metadata={"team": "a\u2028b"})
    claimed = store.queue.claim("one", [JobStatus.VALIDATING], 30)
    assert claimed is not None
    store.queue.append(claimed[1], [NewEvent(f"event {number}", data={"loss": 0.1 + number}) for number in range(2500)])
    store.queue.release(claimed[1])
    gone = make_job()
    with store.database.write() as connection:
        connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": gone.id})
        add_usage(connection, {Account(29_000_000, "default", "", "ünï"): Counts(trained_tokens=2**40)})
    return store


def rows(database: Database) -> dict[str, list[str]]:
    """All that is stored, as texts."""
    with database.read() as connection:
        return {
            table.name: sorted(repr(tuple(row)) for row in connection.execute(table.select()))
            for table in metadata.sorted_tables
        }


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_every_row_is_the_same_there_and_back(filled: Store, there: Store, tmp_path: Path) -> None:
    before = rows(filled.database)
    found = move_database(filled.database, there.database)
    assert (found["events"], found["files"], found["jobs"], found["keys"]) == (2500 + 1, 3, 1, 1)
    assert rows(there.database) == before
    with opened(Settings(data_dir=tmp_path / "back")) as back:
        assert move_database(there.database, back.database) == found
        assert rows(back.database) == before


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_numbers_go_on_where_the_old_database_was(filled: Store, there: Store, make_job: Callable[..., JobRow]) -> None:
    with filled.database.read() as connection:
        given = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")).scalar_one()
        newest = connection.execute(text("SELECT max(seq) FROM jobs")).scalar_one()
    assert newest < given  # the newest job is gone, and its number is not given again
    move_database(filled.database, there.database)
    numbers: JsonObject = {**HYPERPARAMETERS}
    there.jobs.create(
        NewJob("base", "base", f"file-{'0' * 24}", "acme", 1, hyperparameters=numbers, method={"type": "supervised"})
    )
    with there.database.read() as connection:
        seq = connection.execute(text("SELECT max(seq) FROM jobs")).scalar_one()
    assert seq == given + 1


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_nothing_is_mixed_or_taken_from_under_a_worker(
    filled: Store, there: Store, tmp_path: Path, store_settings: Settings
) -> None:
    there.projects.create("somebody")
    with pytest.raises(InvalidRequest, match=r"has 2 rows in its table projects; it must be empty.* drop its tables"):
        move_database(filled.database, there.database)
    with pytest.raises(InvalidRequest, match="Both databases are the same"):
        move_database(filled.database, filled.database)
    assert filled.queue.claim("two", [JobStatus.VALIDATING], 30) is not None
    with (
        opened(Settings(data_dir=tmp_path / "new")) as new,
        pytest.raises(InvalidRequest, match=r"A worker holds job ftjob-\w+\. Stop all servers and workers"),
    ):
        move_database(filled.database, new.database)


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_a_row_that_arrives_changed_leaves_the_new_database_empty(
    filled: Store, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = rows(there.database)
    with there.database.write() as connection:  # a database that changes what it is given
        body = "BEGIN NEW.message := left(NEW.message, 3); RETURN NEW; END"
        connection.execute(text(f"CREATE FUNCTION shorten() RETURNS trigger AS '{body}' LANGUAGE plpgsql"))
        connection.execute(text("CREATE TRIGGER one BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION shorten()"))
    with pytest.raises(ServerFault, match="rows of the table events arrived changed"):
        move_database(filled.database, there.database)
    assert rows(there.database) == empty
