"""Other names of base models that were set while servers run.

All servers of a database see them at once. What a base is, and the aliases of the settings, which these come before:
`models.registry`.
"""

import time
from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import delete, insert, inspect, select

from tunesmith.settings import Settings
from tunesmith.store.schema.db import Database, database_url
from tunesmith.store.schema.tables import aliases


class AliasStore:
    """Aliases of the whole organisation; safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: tuple[int | None, Mapping[str, str]] = (None, {})

    def all(self) -> Mapping[str, str]:
        """Return the base by alias.

        On SQLite the database is asked only after somebody has written to it.
        """
        version = self._database.data_version.read()  # before the question, so that a later write is not missed
        kept_version, kept = self._read
        if version is not None and version == kept_version:
            return kept
        with self._database.read() as connection:
            rows = connection.execute(select(aliases.c.alias, aliases.c.base).order_by(aliases.c.alias)).all()
        found = MappingProxyType({row.alias: row.base for row in rows})
        self._read = (version, found)
        return found

    def set(self, alias: str, base: str) -> None:
        """Let `alias` stand for `base`, in place of what it stood for."""
        values = {"alias": alias, "base": base, "created_at": int(time.time())}
        with self._database.write() as connection:
            connection.execute(delete(aliases).where(aliases.c.alias == alias))
            connection.execute(insert(aliases).values(values))

    def remove(self, alias: str) -> bool:
        """Return False when no such alias was set."""
        with self._database.write() as connection:
            return bool(connection.execute(delete(aliases).where(aliases.c.alias == alias)).rowcount)


def read_aliases(settings: Settings) -> Mapping[str, str]:
    """The aliases of a data directory.

    For a command that needs nothing else of its store. Creates and migrates nothing: without a database there are none.
    """
    if settings.database_url is None and not settings.paths.database.is_file():
        return {}
    database = Database(database_url(settings))
    try:
        with database.read() as connection:
            known = inspect(connection).has_table(aliases.name)
        return AliasStore(database).all() if known else {}
    finally:
        database.close()
