"""Opening a store: schema, settings of the connection, many processes at once."""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from tests.servers import wait_until

from tunesmith.errors import InvalidRequest, ServerFault, ServiceUnavailable
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import ChatRow, JobRow, Store, open_store
from tunesmith.store.evals.rows import NewEval, NewRun, RunItem
from tunesmith.store.schema import db, migrate
from tunesmith.store.schema.db import Database, database_url
from tunesmith.store.schema.tables import metadata

OPEN = """
import sys
from tunesmith.settings import Settings
from tunesmith.store import open_store
store = open_store(Settings(**__import__("json").loads(sys.argv[1])))
print(store.keys.ensure_first(store.blobs.path("file-" + "0" * 24).parent.parent / "api-key") or "")
"""


# Revision 12 undone.
WITHOUT_12 = ("DROP INDEX ix_chats_stored", "ALTER TABLE chats DROP COLUMN bytes")
# Revision 16 undone.
WITHOUT_16 = (
    "ALTER TABLE eval_runs ADD COLUMN data_source TEXT",
    "UPDATE eval_runs SET data_source = (SELECT data_source FROM eval_sources WHERE run_id = eval_runs.id)",
    "DROP TABLE eval_sources",
    "DROP INDEX ix_evals_result_file",
    "ALTER TABLE evals DROP COLUMN result_file",
    "ALTER TABLE models DROP COLUMN display",
)


def described(connection: Connection) -> dict[str, object]:
    """Everything about the tables that differs between two ways of making them, if they do."""
    found = inspect(connection)
    return {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"], str(c.get("default"))) for c in found.get_columns(table)),
            sorted((str(one["name"]), one["column_names"], one["unique"]) for one in found.get_indexes(table)),
            sorted(one["column_names"] for one in found.get_unique_constraints(table)),
            found.get_pk_constraint(table)["constrained_columns"],
        )
        for table in found.get_table_names()
    }


def test_migrations_build_the_schema_of_the_tables(store_settings: Settings) -> None:
    store_settings.paths.root.mkdir()
    database = Database(database_url(store_settings))
    with database.write() as connection:
        migrate._upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        migrated = described(connection)
        projects = connection.execute(text("SELECT id, name FROM projects")).all()
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    migrate.migrate(database)
    with database.read() as connection:
        assert described(connection) == migrated
        assert connection.execute(text("SELECT id, name FROM projects")).all() == projects
        assert migrate._revision(connection) == migrate.HEAD
    database.close()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.HEAD]


def test_processes_that_start_at_once_make_one_schema_and_one_key(store_settings: Settings) -> None:
    command = [sys.executable, "-c", OPEN, store_settings.model_dump_json()]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results
    keys = [out.decode().strip() for out, _ in results if out.strip()]
    assert keys == [store_settings.paths.api_key_file.read_text().strip()]


def test_a_database_of_a_newer_version_is_refused(store: Store, store_settings: Settings) -> None:
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ServerFault, match=r"revision 9999.*Start the version that wrote it"):
        open_store(store_settings)


def test_pairs_written_before_revision_9_are_found_after_it(
    store: Store, store_settings: Settings, make_job: Callable[..., JobRow]
) -> None:
    old, other = make_job(metadata={"team": "weather"}), make_job(metadata={"team": "sport"})
    with store.database.write() as connection:
        for statement in (
            "CREATE TABLE kept AS SELECT job_id, key, value FROM job_metadata",
            "DROP TABLE job_metadata",
            "ALTER TABLE kept RENAME TO job_metadata",
            "DROP INDEX ix_usage_project_minute",
            *WITHOUT_16,
            *WITHOUT_12,
            "ALTER TABLE jobs DROP COLUMN system_message",
            "UPDATE alembic_version SET version_num = '0008'",
        ):
            connection.execute(text(statement))
    upgraded = open_store(store_settings)
    assert [job.id for job in upgraded.jobs.page(metadata={"team": "weather"}).data] == [old.id]
    assert [job.id for job in upgraded.jobs.page(metadata={"team": "sport"}, after=None).data] == [other.id]
    upgraded.close()


def test_chats_stored_before_revision_12_are_counted_and_measured(store: Store, store_settings: Settings) -> None:
    message: JsonObject = {"role": "user", "content": "日本" * 10}
    store.chats.add(ChatRow("chatcmpl-1", "m", "m", 5, {"id": "chatcmpl-1"}, (message,), {}, "default"))
    with store.database.write() as connection:
        measured = connection.execute(text("SELECT bytes FROM chats")).scalar_one()
        for statement in (*WITHOUT_16, *WITHOUT_12, "UPDATE alembic_version SET version_num = '0011'"):
            connection.execute(text(statement))
    assert measured > 100
    again = open_store(store_settings)
    with again.database.read() as connection:
        assert connection.execute(text("SELECT bytes FROM chats")).scalar_one() == measured
    assert again.chats.count() == 1
    again.close()


def test_jobs_made_before_revision_10_have_no_system_message(
    store: Store, store_settings: Settings, make_job: Callable[..., JobRow]
) -> None:
    old = make_job()
    with store.database.write() as connection:
        for statement in (*WITHOUT_16, *WITHOUT_12, "ALTER TABLE jobs DROP COLUMN system_message"):
            connection.execute(text(statement))
        connection.execute(text("UPDATE alembic_version SET version_num = '0009'"))
    upgraded = open_store(store_settings)
    assert upgraded.jobs.get(old.id) == old
    assert upgraded.models.system_message(old.planned_model) is None
    upgraded.close()


def test_runs_made_before_revision_16_keep_their_data_sources(store: Store, store_settings: Settings) -> None:
    made = store.evals.create(NewEval("default", "e", {"type": "custom"}, ({"name": "c"},), {}))
    new = NewRun(made.id, "default", None, "r", "base", {"type": "jsonl", "rows": ["日本"]}, {})
    run, gone = (store.runs.create(new, [RunItem({"n": 1})]) for _ in range(2))
    store.runs.delete(made.id, gone.id)
    with store.database.write() as connection:
        for statement in (*WITHOUT_16, "UPDATE alembic_version SET version_num = '0015'"):
            connection.execute(text(statement))
    again = open_store(store_settings)
    assert again.runs.get(made.id, run.id) == run
    assert again.evals.get(made.id) == made
    with again.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM eval_sources")).scalar_one() == 1
    again.close()


def test_sqlite_writes_are_durable(tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path))
    with store.database.read() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    store.close()


def test_a_writer_that_waits_too_long_is_told_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.05)
    store = open_store(Settings(data_dir=tmp_path))
    late = pytest.raises(ServiceUnavailable, match=r"no write ended in .* s\. Try again")
    with store.database.write(), late, store.database.write():
        pass
    with store.database.write():  # the turn was given back
        store.close()


def test_writers_that_wait_leave_threads_for_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "ROOM_SECONDS", 0.2)
    store = open_store(Settings(data_dir=tmp_path))
    threads = ThreadPoolExecutor(40)  # as the API has

    def write(number: int) -> str:
        try:
            with store.database.write() as connection:
                return str(connection.execute(text("SELECT 1")).scalar())
        except ServiceUnavailable as error:
            return error.message

    without_room = 40 - (db.WAITING_WRITERS - 1)  # of those that begin at once
    with store.database.write():
        writers = [threads.submit(write, number) for number in range(50)]
        began = time.monotonic()
        assert threads.submit(store.jobs.page).result(20).data == ()
        assert time.monotonic() - began < 10  # BUSY_SECONDS is 30
        wait_until(lambda: sum(writer.done() for writer in writers) >= without_room, 20, "writers that are refused")
    said = [writer.result(30) for writer in writers]
    refused = f"The database is busy: {db.WAITING_WRITERS} writes wait for it. Try again."
    assert said.count("1") >= db.WAITING_WRITERS - 1  # and the one that holds it; later ones find room
    assert said.count(refused) >= without_room
    assert {*said} == {"1", refused}
    threads.shutdown()
    store.close()


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    class Stop(Exception):
        pass

    def interrupted() -> None:
        with store.database.write() as connection:
            connection.execute(text("DELETE FROM alembic_version"))
            raise Stop

    with pytest.raises(Stop):
        interrupted()
    with store.database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == migrate.HEAD


def test_an_unreachable_database_is_unavailable() -> None:
    database = Database("postgresql+psycopg://nobody@/none?host=/nonexistent")
    with pytest.raises(ServiceUnavailable, match="does not answer"), database.read():
        pass


def test_an_unknown_database_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="'mysql' is not supported; use sqlite or postgresql"):
        Database("mysql://localhost/x")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_urls_get_the_installed_driver(scheme: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=f"{scheme}://me@host/db")
    assert database_url(settings) == "postgresql+psycopg://me@host/db"


def test_the_data_directory_is_private(store: Store, store_settings: Settings) -> None:
    assert store_settings.paths.root.stat().st_mode & 0o777 == 0o700
