"""Copies a whole database into an empty one, and compares what has arrived.

Either may be SQLite or PostgreSQL. Values are copied as they are stored: JSON stays the same text. It is one
transaction on either side: writers of the old database wait, and a copy that fails or differs leaves the new one as
empty as it was.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Column, Connection, MetaData, Row, Table, Text, TypeDecorator, delete, func, insert, select, text

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.migrate import migrate
from tunesmith.store.schema.tables import LEASED, jobs, metadata, projects

ROWS = 1000  # that are held at a time
MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows there are, and the sum of their hashes, whatever their order."""

    count: int
    digest: int


def move_database(source: Database, target: Database) -> dict[str, int]:
    """Copies every row into the empty database `target`; the number of rows by table.

    Raises InvalidRequest where that is not to be done, and ServerFault where a row arrived otherwise than it was.
    """
    if source.engine.url == target.engine.url:
        raise InvalidRequest("Both databases are the same. Name the new one.")
    if source.file is not None and not source.file.exists():
        raise InvalidRequest(f"There is no database {source.file} to move.")
    migrate(source)
    migrate(target)
    with target.read() as new:
        _require_empty(target, new)
    with source.write() as old, target.write() as new:
        _require_rest(source, old)
        new.execute(delete(projects))  # the first one, which every new database has
        found = {table.name: _copied(old, new, table) for table in metadata.sorted_tables}
        for table in metadata.sorted_tables:
            if table.autoincrement_column is not None:
                _go_on(new, table.name, _last(old, table.name))
    return found


def _require_empty(database: Database, connection: Connection) -> None:
    for table in metadata.sorted_tables:
        allowed = 1 if table is projects else 0
        count = connection.execute(select(func.count()).select_from(table)).scalar_one()
        if count > allowed:
            raise InvalidRequest(
                f"The new database has {count:,} rows in its table {table.name}; it must be empty, so that nothing is"
                f" mixed or overwritten. {_how_to_empty(database)}"
            )


def _how_to_empty(database: Database) -> str:
    if database.file is None:
        return "Name another one, or drop its tables first."
    return (
        f"Move {database.file} to another folder, with {database.file.name}-wal and {database.file.name}-shm if they"
        " are there, then try again; what is in it is then kept there."
    )


def _require_rest(database: Database, connection: Connection) -> None:
    """Nobody writes until the end of the transaction; InvalidRequest where a job is being worked at."""
    if not database.is_sqlite:  # whose writers wait for the one lock that we hold
        names = ", ".join(table.name for table in metadata.sorted_tables)
        connection.execute(text(f"LOCK TABLE {names} IN SHARE MODE"))
    held = select(jobs.c.id).where(LEASED, jobs.c.lease_until > database.clock(connection))
    job = connection.execute(held.limit(1)).scalar()
    if job is not None:
        raise InvalidRequest(
            f"A worker holds job {job}. Stop all servers and workers (their jobs go on in the new database), wait for"
            f" {time.strftime('%H:%M:%S', time.localtime(_until(connection, job)))}, then try again."
        )


def _until(connection: Connection, job: str) -> float:
    return float(connection.execute(select(jobs.c.lease_until).where(jobs.c.id == job)).scalar_one()) + 1


def _copied(old: Connection, new: Connection, table: Table) -> int:
    """Copies a table; the number of its rows. Raises ServerFault where the new rows are not those of the old."""
    stored = _stored(table)
    names = [column.name for column in stored.columns]
    read = Rows(0, 0)
    for rows in _parts(old, stored):
        new.execute(insert(stored), [dict(zip(names, row, strict=True)) for row in rows])
        read = _with(read, rows)
    arrived = Rows(0, 0)
    for rows in _parts(new, stored):
        arrived = _with(arrived, rows)
    if arrived != read:
        raise ServerFault(
            f"The rows of the table {table.name} arrived changed ({read.count:,} were read, {arrived.count:,} are"
            " there). Nothing was kept; the old database is as it was."
        )
    return read.count


def _stored(table: Table) -> Table:
    """The table with plain types: values as the database has them, not as the store reads them."""
    columns = (
        Column(column.name, Text() if isinstance(column.type, TypeDecorator) else column.type)
        for column in table.columns
    )
    return Table(table.name, MetaData(), *columns)


def _parts(connection: Connection, table: Table) -> Iterator[list[Row[tuple[object, ...]]]]:
    found = connection.execute(select(table).execution_options(yield_per=ROWS))
    yield from (list(part) for part in found.partitions())


def _with(rows: Rows, more: list[Row[tuple[object, ...]]]) -> Rows:
    hashes = (int.from_bytes(sha256(repr(tuple(row)).encode("utf-8", "surrogatepass")).digest()) for row in more)
    return Rows(rows.count + len(more), (rows.digest + sum(hashes)) % MODULUS)


def _last(connection: Connection, table: str) -> int:
    """The last number of `seq` that was given; numbers are never given twice."""
    if connection.dialect.name == "sqlite":
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        return int(connection.execute(query, {"name": table}).scalar() or 0)
    query = text("SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:name, 'seq') AS regclass))")
    return int(connection.execute(query, {"name": table}).scalar() or 0)


def _go_on(connection: Connection, table: str, last: int) -> None:
    """Lets `seq` go on behind `last`."""
    if not last:
        return
    values = {"name": table, "last": last}
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'seq'), :last)"), values)
    elif not connection.execute(text("UPDATE sqlite_sequence SET seq = :last WHERE name = :name"), values).rowcount:
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)
