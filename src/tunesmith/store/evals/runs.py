"""Runs and their items as the API sees them.

What their runner does is in `leases`.
"""

import json
import time
from collections.abc import Sequence
from itertools import accumulate
from typing import cast

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, insert, select, update

from tunesmith.errors import InvalidRequest, NotFound, RateLimited
from tunesmith.jsonvalue import JsonObject
from tunesmith.store.evals.rows import (
    Done,
    ItemRow,
    ItemState,
    NewRun,
    PairedItem,
    RunItem,
    RunRow,
    RunStatus,
    Totals,
)
from tunesmith.store.ids import new_item_id, new_run_id
from tunesmith.store.objects.idempotency import CreateRequest, find_earlier, remember_request
from tunesmith.store.objects.pagination import Cursor, fetch_page
from tunesmith.store.rows import Page
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.eval_tables import UNFINISHED_RUN, eval_items, eval_runs, eval_sources
from tunesmith.store.scope import Scope

PAGE_BYTES = 8 * 1024 * 1024  # of a page's data sources, or items
INSERT_ROWS = 500
RUNS = select(eval_runs, eval_sources.c.data_source).join(eval_sources, isouter=True)


class RunStore:
    """Runs of evals, with what their rows were answered."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    def within(self, scope: Scope) -> "RunStore":
        """The same store, limited to `scope`."""
        return RunStore(self._database, scope)

    def create(
        self, new: NewRun, rows: Sequence[RunItem], request: CreateRequest | None = None, *, most: int = 0
    ) -> RunRow:
        """Queue a run over `rows`.

        Returns that of an earlier attempt at the same `request` instead, if there was one. Raises RateLimited when the
        project has `most` unfinished runs (0: no limit).
        """
        with self._database.write() as connection:
            made = find_earlier(self._database, connection, request) if request else None
            if made is not None:
                return self._found(connection, new.eval_id, made)
            _demand_fewer(connection, new.project, most)
            made = insert_run(connection, new, status="queued", total=len(rows))
            _insert_items(connection, made, new.project, rows)
            if request:
                remember_request(connection, request, made)
            return self._found(connection, new.eval_id, made)

    def get(self, eval_id: str, run_id: str) -> RunRow:
        """Return a run of this eval. Raises NotFound."""
        with self._database.read() as connection:
            return self._found(connection, eval_id, run_id)

    def page(self, eval_id: str, cursor: Cursor, status: RunStatus | None = None) -> Page[RunRow]:
        """Return a page of an eval's runs, of at most `PAGE_BYTES` but at least one."""
        alive = (self._scope.of(eval_runs), eval_runs.c.eval_id == eval_id, eval_runs.c.deleted_at.is_(None))
        query = select(eval_runs.c.seq, eval_runs.c.bytes).where(*alive)
        if status is not None:
            query = query.where(eval_runs.c.status == status)
        with self._database.read() as connection:
            found, more = fetch_page(connection, query, eval_runs, cursor, self._scope)
            fit = _fitting([row["bytes"] for row in found])
            page = RUNS.where(eval_runs.c.seq.in_([row["seq"] for row in found[:fit]]))
            page = page.order_by(eval_runs.c.seq.desc() if cursor.order == "desc" else eval_runs.c.seq)
            rows = list(connection.execute(page).mappings())
        return Page(tuple(run_row(row) for row in rows), more or fit < len(found))

    def cancel(self, eval_id: str, run_id: str) -> RunRow:
        """Cancel a run at once; what was answered stays.

        Raises NotFound, and InvalidRequest when it has ended in another way.
        """
        with self._database.write() as connection:
            connection.execute(select(eval_runs.c.seq).where(self._alive(eval_id, run_id)).with_for_update())
            run = self._found(connection, eval_id, run_id)
            if run.finished and run.status != "canceled":
                raise InvalidRequest(f"The run {run_id} is {run.status}: there is nothing to cancel.", param="run_id")
            values = {"status": "canceled", "worker": None, "lease_until": None}
            connection.execute(update(eval_runs).where(eval_runs.c.id == run_id).values(values))
            return self._found(connection, eval_id, run_id)

    def delete(self, eval_id: str, run_id: str) -> None:
        """Delete a run with its items; one under way stops. Raises NotFound."""
        values = {"deleted_at": int(time.time()), "metadata": None, "totals": None}
        with self._database.write() as connection:
            gone = update(eval_runs).where(self._alive(eval_id, run_id)).values(values)
            if not connection.execute(gone).rowcount:
                raise no_run(run_id)
            for table in (eval_items, eval_sources):
                connection.execute(delete(table).where(table.c.run_id == run_id))

    def items(self, run: RunRow, cursor: Cursor, state: ItemState | None = None) -> Page[ItemRow]:
        """Return a page of the items that are done, in the order in which they were.

        At most `PAGE_BYTES` of them, but at least one.
        """
        query = select(eval_items.c.seq, eval_items.c.bytes, eval_items.c.place)
        query = query.where(eval_items.c.run_id == run.id, eval_items.c.place.is_not(None))
        if state is not None:
            query = query.where(eval_items.c.state == state)
        with self._database.read() as connection:
            place = (eval_items.c.place,)
            found, more = fetch_page(connection, query, eval_items, cursor, self._scope, place)
            fit = _fitting([row["bytes"] for row in found])
            page = select(eval_items).where(eval_items.c.seq.in_([row["seq"] for row in found[:fit]]))
            page = page.order_by(eval_items.c.place.desc() if cursor.order == "desc" else eval_items.c.place)
            rows = list(connection.execute(page).mappings())
        return Page(tuple(item_row(row) for row in rows), more or fit < len(found))

    def paired(self, first: RunRow, second: RunRow) -> list[PairedItem]:
        """Return what both runs made of the same row, by its number.

        Rows whose items differ are not the same; those that one of the runs has not done are left out.
        """
        other = eval_items.alias("other")
        same = and_(other.c.run_id == second.id, *(other.c[name] == eval_items.c[name] for name in ("number", "item")))
        columns = [table.c[name] for table in (eval_items, other) for name in ("id", "state", "results")]
        query = select(eval_items.c.number, *columns).join(other, same).order_by(eval_items.c.number)
        query = query.where(eval_items.c.run_id == first.id, self._scope.of(eval_items), self._scope.of(other))
        query = query.where(eval_items.c.place.is_not(None), other.c.place.is_not(None))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [_paired(*row) for row in rows]

    def item(self, run: RunRow, item_id: str) -> ItemRow:
        """Return one item that is done. Raises NotFound."""
        query = select(eval_items).where(
            eval_items.c.id == item_id, eval_items.c.run_id == run.id, eval_items.c.place.is_not(None)
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            message = f"The run {run.id} has no output item {item_id!r}. GET …/output_items lists those it has."
            raise NotFound(message, param="output_item_id")
        return item_row(row)

    def _found(self, connection: Connection, eval_id: str, run_id: str) -> RunRow:
        row = connection.execute(RUNS.where(self._alive(eval_id, run_id))).mappings().one_or_none()
        if row is None:
            raise no_run(run_id)
        return run_row(row)

    def _alive(self, eval_id: str, run_id: str) -> ColumnElement[bool]:
        of_eval = (eval_runs.c.id == run_id) & (eval_runs.c.eval_id == eval_id)
        return of_eval & self._scope.of(eval_runs) & eval_runs.c.deleted_at.is_(None)


def insert_run(connection: Connection, new: NewRun, **columns: object) -> str:
    """Inserts a run without its items; returns its id."""
    made = new_run_id()
    values = {name: getattr(new, name) for name in NewRun.__slots__ if name != "data_source"}
    values |= {"created_at": int(time.time()), "bytes": len(json.dumps(new.data_source)), **columns}
    connection.execute(insert(eval_runs).values(id=made, **values))
    connection.execute(insert(eval_sources).values(run_id=made, data_source=new.data_source))
    return made


def no_run(run_id: str) -> NotFound:
    """The 404 of a run that is not there, or is another eval's."""
    return NotFound(f"This eval has no run {run_id!r}. GET /v1/evals/EVAL/runs lists those it has.", param="run_id")


def run_row(row: RowMapping) -> RunRow:
    """A row of `RUNS` as the store returns it."""
    values = {name: row[name] for name in RunRow.__slots__}
    values["totals"] = Totals.from_json(row["totals"])
    return RunRow(**values)


def item_row(row: RowMapping) -> ItemRow:
    """The row of an item as the store returns it."""
    values = {name: row[name] for name in ItemRow.__slots__}
    values["results"] = tuple(row["results"] or ())
    return ItemRow(**values)


def _paired(number: int, *sides: object) -> PairedItem:
    made = [
        Done(cast(str, sides[at]), cast(ItemState, sides[at + 1]), tuple(cast("list[JsonObject]", sides[at + 2] or [])))
        for at in (0, 3)
    ]
    return PairedItem(number, made[0], made[1])


def _insert_items(connection: Connection, run_id: str, project: str, rows: Sequence[RunItem]) -> None:
    now = int(time.time())
    for first in range(0, len(rows), INSERT_ROWS):
        values = [
            {
                "id": new_item_id(),
                "run_id": run_id,
                "project": project,
                "number": first + place,
                "item": row.item,
                "given": row.given,
                "state": "waiting",
                "created_at": now,
                "bytes": len(json.dumps(row.item)),
            }
            for place, row in enumerate(rows[first : first + INSERT_ROWS])
        ]
        connection.execute(insert(eval_items), values)


def _demand_fewer(connection: Connection, project: str, most: int) -> None:
    if not most:
        return
    query = select(func.count()).where(UNFINISHED_RUN, eval_runs.c.project == project)
    if connection.execute(query).scalar_one() >= most:
        raise RateLimited(
            f"Project {project} has {most} unfinished eval runs, the limit here (setting limit_unfinished_runs). Wait "
            "for one to end, or cancel one.",
            code="unfinished_runs_limit",
        )


def _fitting(sizes: Sequence[int]) -> int:
    """How many of these, from the first on, are one page."""
    return next((at for at, total in enumerate(accumulate(sizes)) if at and total > PAGE_BYTES), len(sizes))
