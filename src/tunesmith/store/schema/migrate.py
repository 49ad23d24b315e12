"""Brings the schema to this version's revision.

It holds a lock: of processes that start at the same time, one migrates and the others wait.

A new database is made as `tables` has it, in a tenth of the time that all migrations take; a test holds the two equal.
"""

import time
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, text
from sqlalchemy.dialects import registry
from sqlalchemy.schema import CreateIndex, CreateTable

from tunesmith.errors import ServerFault
from tunesmith.store.rows import FIRST_PROJECT
from tunesmith.store.schema import eval_tables as _eval_tables  # noqa: F401 - declares its tables
from tunesmith.store.schema import server_tables as _server_tables  # noqa: F401 - declares its tables
from tunesmith.store.schema.db import MIGRATION_KEY, Database
from tunesmith.store.schema.tables import metadata, projects

HEAD = "0018"  # the newest file of migrations/versions; a test holds the two together


def migrate(database: Database) -> None:
    """Migrate if needed. Raises ServerFault when a newer version wrote the database."""
    with database.read() as connection:
        if _revision(connection) == HEAD:  # spares every later start the import of Alembic (0.2 s)
            return
    with database.write() as connection:
        database.advisory_lock(connection, MIGRATION_KEY)
        if _revision(connection) == HEAD:
            return
        if inspect(connection).get_table_names():
            _upgrade(connection)
        else:
            _create(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _create(connection: Connection) -> None:
    for statement in _statements(connection.dialect.name):
        connection.exec_driver_sql(statement)
    first = {"id": FIRST_PROJECT, "name": "Default project", "created_at": int(time.time())}
    connection.execute(insert(projects).values(first))
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})


@cache
def _statements(database: str) -> tuple[str, ...]:
    """What creates the tables and their indexes, and Alembic's own table."""
    dialect, tables = registry.load(database)(), metadata.sorted_tables
    indexes = [index for table in tables for index in sorted(table.indexes, key=lambda one: str(one.name))]
    made: list[CreateTable | CreateIndex] = [*map(CreateTable, tables), *map(CreateIndex, indexes)]
    version = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
    return (*(str(one.compile(dialect=dialect)) for one in made), version)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ServerFault(
            f"The database is at revision {_revision(connection)}, this Tunesmith knows revisions up to {HEAD}"
            f" ({error}). Start the version that wrote it, or restore a backup."
        ) from error
