"""Connections and transactions, the same on SQLite and PostgreSQL.

SQLite runs in WAL mode with `synchronous=FULL`, so that what was acknowledged survives a power cut as well as a kill.
Writers take their lock at BEGIN (IMMEDIATE): a lock that is taken later cannot be waited for and fails at once.
"""

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, exc, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry

from tunesmith.errors import DiskFull, InvalidRequest, ServiceUnavailable
from tunesmith.settings import Settings
from tunesmith.store.schema.data_version import DataVersion

BUSY_SECONDS = 30.0  # longer than any transaction here; SQLite allows one writer at a time
MIGRATION_KEY, FIRST_KEY_KEY, CLAIM_KEY, RUN_CLAIM_KEY, LEASE_KEY = (
    7_486_301,
    7_486_302,
    7_486_303,
    7_486_304,
    7_486_305,
)  # arbitrary numbers that nothing else locks in this database
POOL_SIZE = 8
POOL_OVERFLOW = 40  # the API's thread pool has 40 threads
WAITING_WRITERS = 24  # at most, so that readers find a thread while all of them wait
ROOM_SECONDS = 1.0  # how long one more waits for room among them


REFUSALS = (  # what trying again does not mend; in English, as its server may be set up otherwise
    (
        re.compile(r'database "[^"]*" does not exist'),
        "has no such database. Create it with createdb NAME, or correct its URL.",
    ),
    (
        re.compile(r'role "[^"]*" does not exist|password authentication failed|no password supplied'),
        "does not let this user in. Correct the user in the URL, or the password (PGPASSWORD).",
    ),
)


class Database:
    """An engine with two kinds of transaction; both roll back when the block raises."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writing = self.engine.execution_options(writes=True)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # On PostgreSQL a statement outside a transaction sees the same, for one round trip instead of three.
        self._reading = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = threading.Lock()
        self._room = threading.BoundedSemaphore(WAITING_WRITERS)
        self.data_version = DataVersion(self.engine.url.database if self.is_sqlite else None)

    @property
    def file(self) -> Path | None:
        """Where SQLite keeps it; None on PostgreSQL."""
        name = self.engine.url.database if self.is_sqlite else None
        return Path(name) if name else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises ServiceUnavailable."""
        with self._begin(self._reading) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write. Raises ServiceUnavailable."""
        with self._one_writer(), self._begin(self._writing) as connection:
            yield connection

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        """Queue this process's writers up, one at a time, on SQLite.

        SQLite's own writers poll for its one lock, and some wait a second.
        """
        if not self.is_sqlite:
            yield
            return
        if not self._room.acquire(timeout=ROOM_SECONDS):
            raise ServiceUnavailable(f"The database is busy: {WAITING_WRITERS} writes wait for it. Try again.")
        try:
            if not self._writer.acquire(timeout=BUSY_SECONDS):
                raise ServiceUnavailable(f"The database is busy: no write ended in {BUSY_SECONDS:.0f} s. Try again.")
            try:
                yield
            finally:
                self._writer.release()
        finally:
            self._room.release()

    @contextmanager
    def _begin(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.connect() as connection, connection.begin():
                yield connection
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            cause = " ".join(str(error.__cause__ or error).split())
            if "disk is full" in cause:
                text = "The disk of the server's database is full. Make room, then try again."
                raise DiskFull(text, code="disk_full") from error
            raise ServiceUnavailable(_without_answer(cause), detail=cause) from error

    def clock(self, connection: Connection) -> float:
        """Unix seconds, by the database server's clock.

        Leases of workers on several machines are compared by it.
        """
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def advisory_lock(self, connection: Connection, key: int) -> None:
        """Wait until no other writer holds `key`; held to the end of the transaction.

        A SQLite writer is always alone.
        """
        if not self.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def close(self) -> None:
        """Close all connections."""
        self.data_version.close()
        self.engine.dispose()


def _without_answer(cause: str) -> str:
    """The sentence for a database that gives no connection; names of hosts and users stand in the cause alone."""
    cure = next((cure for words, cure in REFUSALS if words.search(cause)), None)
    return "The database does not answer. Try again." if cure is None else f"PostgreSQL {cure}"


def database_url(settings: Settings) -> str:
    """The setting, with the installed driver; SQLite in the data directory if unset."""
    if settings.database_url is None:
        return f"sqlite:///{settings.paths.database}"
    url = settings.database_url
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def _engine(url: str) -> Engine:
    backend = make_url(url).get_backend_name()
    if backend == "sqlite":
        return _sqlite_engine(url)
    if backend == "postgresql":
        try:
            return _postgresql_engine(url)
        except ModuleNotFoundError as error:
            raise InvalidRequest(f"PostgreSQL needs {error.name}: pip install 'psycopg[binary]'.") from error
    raise InvalidRequest(f"Setting database_url: {backend!r} is not supported; use sqlite or postgresql.")


def _postgresql_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_pre_ping=True,
        connect_args={"client_encoding": "utf8"},  # of a database in SQL_ASCII, the driver would read bytes for texts
    )
    event.listen(engine, "connect", _configure_postgresql)
    return engine


def _configure_postgresql(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """Have PostgreSQL plan for the values that are asked for.

    The driver prepares frequent statements, and the plan for any value took 20 ms to find jobs by a common and a rare
    pair of metadata; the plan for the given values takes 1.
    """
    cursor = connection.cursor()
    cursor.execute("SET plan_cache_mode = force_custom_plan")
    cursor.close()
    connection.commit()


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # Python's own BEGIN comes too late and breaks DDL; `_begin_sqlite` sends ours
    cursor = connection.cursor()
    _enter_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _enter_wal(cursor: DBAPICursor) -> None:
    """Enter WAL mode, which needs exclusive access to the file.

    SQLite does not wait for that when another process starts at the same time.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:  # a full disk is told at once
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
