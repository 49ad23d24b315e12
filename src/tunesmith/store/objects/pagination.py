"""Cutting a list into pages by id, in order of creation."""

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, select

from tunesmith.store.rows import Order
from tunesmith.store.scope import EVERYBODY, Scope

if TYPE_CHECKING:
    from sqlalchemy import Select


def cut(
    connection: Connection,
    query: "Select[*tuple[object, ...]]",
    table: Table,
    limit: int,
    after: str | None,
    order: Order,
    scope: Scope = EVERYBODY,
    place: ColumnElement[int] | None = None,
) -> tuple[list[RowMapping], bool]:
    """Up to `limit` rows after the row with id `after`, and whether more follow. An unknown id: no rows.

    `scope`: where the row `after` must be; `query` has its own WHERE. `place`: the column that says the order, where it
    is not the table's own `seq` but one equal to it, of the index that `query` walks.
    """
    by = table.c.seq if place is None else place
    newest_first = order == "desc"
    if after is not None:
        seq = connection.execute(select(table.c.seq).where(table.c.id == after, scope.of(table))).scalar()
        if seq is None:
            return [], False
        query = query.where(by < seq if newest_first else by > seq)
    query = query.order_by(by.desc() if newest_first else by)
    rows = list(connection.execute(query.limit(limit + 1)).mappings())
    return rows[:limit], len(rows) > limit
