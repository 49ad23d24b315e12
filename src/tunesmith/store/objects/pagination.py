"""Cutting a list into pages by id, in order of creation or of insertion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, FromClause, RowMapping, Table, select, tuple_

from tunesmith.store.rows import Order
from tunesmith.store.scope import EVERYBODY, Scope

if TYPE_CHECKING:
    from sqlalchemy import Select


@dataclass(frozen=True, slots=True)
class Cursor:
    """A page's place: up to `limit` rows after the one whose id is `after`.

    `after` None: from the start.
    """

    limit: int
    after: str | None = None
    order: Order = "desc"


def by_time(table: FromClause, scope: Scope) -> tuple[ColumnElement[int], ...]:
    """The place of a row that may have been imported: by its time, then as inserted.

    A list over all projects has no index by time and goes by insertion; nobody reads it as a list.
    """
    return (table.c.seq,) if scope == EVERYBODY else (table.c.created_at, table.c.seq)


def fetch_page(
    connection: Connection,
    query: "Select[*tuple[object, ...]]",
    table: Table,
    cursor: Cursor,
    scope: Scope,
    place: Sequence[ColumnElement[int]] = (),
) -> tuple[list[RowMapping], bool]:
    """The rows of one page, and whether more follow. An unknown `after` gives no rows.

    `scope` is where the row `after` must be; `query` has its own WHERE. `place`: the columns to order by, in the index
    that `query` walks, where they are not the table's own `seq`; `table` has columns of the same names.
    """
    by = tuple_(*(place or (table.c.seq,)))
    newest_first = cursor.order == "desc"
    if cursor.after is not None:
        columns = [table.c[str(column.key)] for column in by.clauses]
        edge = connection.execute(select(*columns).where(table.c.id == cursor.after, scope.of(table))).first()
        if edge is None:
            return [], False
        query = query.where(by < tuple_(*edge) if newest_first else by > tuple_(*edge))
    query = query.order_by(*(column.desc() if newest_first else column for column in by.clauses))
    rows = list(connection.execute(query.limit(cursor.limit + 1)).mappings())
    return rows[: cursor.limit], len(rows) > cursor.limit
