"""Usage: counters per minute, project, key and model. Never what was said.

A minute is the smallest bucket anybody can ask for, so the table grows with time and models, not with requests.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias, cast

from sqlalchemy import Connection, Row, Select, bindparam, func, literal, null, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tunesmith.store.rows import COUNTERS, Counts
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import keys, usage

Group = Literal["project", "key_id", "model"]
GROUPS: tuple[Group, ...] = ("project", "key_id", "model")
MINUTE = 60
Sums: TypeAlias = tuple[int, str | None, str | None, str | None, *tuple[int | Decimal, ...]]  # start, GROUPS, COUNTERS


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """What is counted together: one minute of one key's use of one model."""

    minute: int  # Unix seconds of its start
    project: str
    key_id: str
    model: str


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """A filter of the usage to sum; empty: everything."""

    projects: Sequence[str] = ()
    key_ids: Sequence[str] = ()
    models: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One sum; the columns that it is not grouped by are None."""

    start: int
    project: str | None
    key_id: str | None
    model: str | None
    counts: Counts


class UsageStore:
    """Usage of every project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, counts: Mapping[Account, Counts], seen: Mapping[str, int]) -> None:
        """Add to the counters, and record when keys were last used.

        `seen`: key id -> Unix seconds.
        """
        with self._database.write() as connection:
            add_usage(connection, counts)
            if seen:
                change = update(keys).where(keys.c.id == bindparam("key")).values(last_used_at=bindparam("at"))
                connection.execute(change, [{"key": key, "at": seen[key]} for key in sorted(seen)])

    def sums(
        self, start: int, end: int, width: int, *, where: UsageFilter = UsageFilter(), group_by: Sequence[Group] = ()
    ) -> list[UsageRow]:
        """Return sums per bucket and group, oldest first, without empty buckets.

        A bucket has `width` seconds (a multiple of 60) and begins at a multiple of `width`. `start` is inclusive, `end`
        exclusive, both rounded to the minute.
        """
        query = _sums(start, end, width, group_by)
        for column, chosen in ((usage.c.project, where.projects), (usage.c.key_id, where.key_ids)):
            query = query.where(column.in_(chosen)) if chosen else query
        if where.models:
            query = query.where(usage.c.model.in_(where.models))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [_usage_row(row) for row in rows]

    def largest(self, start: int, end: int, group: Group, limit: int) -> list[tuple[str, Counts]]:
        """Return the largest sums of a time by one column.

        Those with most tokens and requests come first; a name may be empty.
        """
        totals = [func.sum(usage.c[name]) for name in COUNTERS]
        weight = sum((func.sum(usage.c[name]) for name in COUNTERS if name != "cached_tokens"), literal(0))
        within = (usage.c.minute >= start - start % MINUTE, usage.c.minute < end)
        query = select(usage.c[group], *totals).where(*within).group_by(usage.c[group])
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(weight.desc(), usage.c[group]).limit(limit)).all()
        return [(str(name or ""), Counts(*(int(one) for one in sums))) for name, *sums in rows]


def _usage_row(row: Row[*tuple[object, ...]]) -> UsageRow:
    start, project, key_id, model, *sums = cast(Sums, row)  # by place: a week by model is thousands of rows
    return UsageRow(start, project, key_id, model, Counts(*(int(one) for one in sums)))


def add_usage(connection: Connection, counts: Mapping[Account, Counts]) -> None:
    """Add to the counters, within the caller's transaction.

    Rows are always locked in the same order, so two processes never wait for each other.
    """
    if not counts:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insertion = dialect.insert(usage)
    sums = {name: usage.c[name] + insertion.excluded[name] for name in COUNTERS}
    statement = insertion.on_conflict_do_update(index_elements=list(usage.primary_key), set_=sums)
    rows = [
        {
            "minute": account.minute,
            "project": account.project,
            "key_id": account.key_id,
            "model": account.model,
            **{name: getattr(counts[account], name) for name in COUNTERS},
        }
        for account in sorted(counts)
    ]
    connection.execute(statement, rows)


def this_minute() -> int:
    """The start of the current minute, Unix seconds."""
    return int(time.time()) // MINUTE * MINUTE


def _sums(start: int, end: int, width: int, group_by: Sequence[Group]) -> "Select[*tuple[object, ...]]":
    bucket = (usage.c.minute - usage.c.minute % literal(width, literal_execute=True)).label("start")
    groups = [usage.c[name] for name in group_by]
    shown = [usage.c[name] if name in group_by else null() for name in GROUPS]
    totals = [func.sum(usage.c[name]).label(name) for name in COUNTERS]
    within = (usage.c.minute >= start - start % MINUTE, usage.c.minute < end)
    return select(bucket, *shown, *totals).where(*within).group_by(bucket, *groups).order_by(bucket, *groups)
