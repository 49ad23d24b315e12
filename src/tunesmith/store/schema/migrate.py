"""Brings the schema to this version's revision.

It holds a lock: of processes that start at the same time, one migrates and the others wait.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from tunesmith.errors import ServerFault
from tunesmith.store.schema.db import MIGRATION_KEY, Database

HEAD = "0016"  # the newest file of migrations/versions; a test holds the two together


def migrate(database: Database) -> None:
    """Migrate if needed. Raises ServerFault when a newer version wrote the database."""
    with database.read() as connection:
        if _revision(connection) == HEAD:  # spares every later start the import of Alembic (0.2 s)
            return
    with database.write() as connection:
        database.advisory_lock(connection, MIGRATION_KEY)
        if _revision(connection) != HEAD:
            _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


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
