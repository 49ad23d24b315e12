"""Cutting a list into pages by id, in order of creation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, select

from tunesmith.store.rows import Order
from tunesmith.store.scope import Scope

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


def fetch_page(
    connection: Connection,
    query: "Select[*tuple[object, ...]]",
    table: Table,
    cursor: Cursor,
    scope: Scope,
    place: ColumnElement[int] | None = None,
) -> tuple[list[RowMapping], bool]:
    """The rows of one page, and whether more follow. An unknown `after` gives no rows.

    `scope` is where the row `after` must be; `query` has its own WHERE. `place` is the column to order by where it is
    not the table's own `seq` but a column equal to it, in the index that `query` walks.
    """
    by = table.c.seq if place is None else place
    newest_first = cursor.order == "desc"
    if cursor.after is not None:
        seq = connection.execute(select(table.c.seq).where(table.c.id == cursor.after, scope.of(table))).scalar()
        if seq is None:
            return [], False
        query = query.where(by < seq if newest_first else by > seq)
    query = query.order_by(by.desc() if newest_first else by)
    rows = list(connection.execute(query.limit(cursor.limit + 1)).mappings())
    return rows[: cursor.limit], len(rows) > cursor.limit
