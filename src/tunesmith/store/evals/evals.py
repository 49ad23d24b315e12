"""Evals as the API sees them."""

import time

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, insert, select, update

from tunesmith.errors import NotFound
from tunesmith.store.evals.rows import EvalOrder, EvalRow, NewEval
from tunesmith.store.ids import new_eval_id
from tunesmith.store.objects.idempotency import CreateRequest, find_earlier, remember_request
from tunesmith.store.objects.pagination import Cursor, fetch_page
from tunesmith.store.rows import Page
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.eval_tables import eval_items, eval_runs, eval_sources, evals
from tunesmith.store.scope import Scope


class EvalStore:
    """Evals; what is deleted takes its runs along."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    def within(self, scope: Scope) -> "EvalStore":
        """The same store, limited to `scope`."""
        return EvalStore(self._database, scope)

    def create(self, new: NewEval, request: CreateRequest | None = None) -> EvalRow:
        """Create an eval; returns that of an earlier attempt at the same `request`."""
        with self._database.write() as connection:
            made = find_earlier(self._database, connection, request) if request else None
            if made is None:
                made = insert_eval(connection, new)
                if request:
                    remember_request(connection, request, made)
            return self._found(connection, made)

    def get(self, eval_id: str) -> EvalRow:
        """Return an eval. Raises NotFound."""
        with self._database.read() as connection:
            return self._found(connection, eval_id)

    def page(self, cursor: Cursor, order_by: EvalOrder = "created_at") -> Page[EvalRow]:
        """Return a page of evals; a deleted one still serves as `after`."""
        query = select(evals).where(self._scope.of(evals), evals.c.deleted_at.is_(None))
        place = (evals.c.updated_at, evals.c.seq) if order_by == "updated_at" else ()
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, evals, cursor, self._scope, place)
        return Page(tuple(_eval_row(row) for row in rows), more)

    def update(self, eval_id: str, name: str | None, metadata: dict[str, str] | None) -> EvalRow:
        """Rename an eval, replace its metadata; None changes nothing. Raises NotFound."""
        values: dict[str, object] = {"updated_at": int(time.time())}
        values |= {key: value for key, value in (("name", name), ("metadata", metadata)) if value is not None}
        change = update(evals).where(self._alive(eval_id)).values(values).returning(evals)
        with self._database.write() as connection:
            row = connection.execute(change).mappings().one_or_none()
        if row is None:
            raise no_eval(eval_id)
        return _eval_row(row)

    def delete(self, eval_id: str) -> None:
        """Delete an eval with its runs; one under way stops. Raises NotFound."""
        with self._database.write() as connection:
            if not erase_evals(connection, self._alive(eval_id)):
                raise no_eval(eval_id)

    def _found(self, connection: Connection, eval_id: str) -> EvalRow:
        row = connection.execute(select(evals).where(self._alive(eval_id))).mappings().one_or_none()
        if row is None:
            raise no_eval(eval_id)
        return _eval_row(row)

    def _alive(self, eval_id: str) -> ColumnElement[bool]:
        return (evals.c.id == eval_id) & self._scope.of(evals) & evals.c.deleted_at.is_(None)


def insert_eval(connection: Connection, new: NewEval, result_file: str | None = None) -> str:
    """Inserts an eval; returns its id."""
    made, now = new_eval_id(), int(time.time())
    values = {name: getattr(new, name) for name in NewEval.__slots__}
    values |= {"testing_criteria": list(new.testing_criteria), "created_at": now, "updated_at": now}
    connection.execute(insert(evals).values(id=made, result_file=result_file, **values))
    return made


def erase_evals(connection: Connection, which: ColumnElement[bool]) -> bool:
    """Erases evals with their runs; False where there are none."""
    erased = {"deleted_at": int(time.time()), "metadata": None}
    found = connection.execute(select(evals.c.id).where(which, evals.c.deleted_at.is_(None))).scalars().all()
    emptied = {"data_source_config": None, "testing_criteria": None, "name": "", "result_file": None}
    connection.execute(update(evals).where(evals.c.id.in_(found)).values({**erased, **emptied}))
    of_evals = eval_runs.c.eval_id.in_(found)
    runs = update(eval_runs).where(of_evals, eval_runs.c.deleted_at.is_(None))
    connection.execute(runs.values({**erased, "totals": None}))
    for table in (eval_items, eval_sources):
        connection.execute(delete(table).where(table.c.run_id.in_(select(eval_runs.c.id).where(of_evals))))
    return bool(found)


def no_eval(eval_id: str) -> NotFound:
    """The 404 of an eval that is not there, or is another project's."""
    return NotFound(f"There is no eval {eval_id!r}. GET /v1/evals lists those of this project.", param="eval_id")


def _eval_row(row: RowMapping) -> EvalRow:
    values = {name: row[name] for name in EvalRow.__slots__}
    values["testing_criteria"] = tuple(row["testing_criteria"])
    return EvalRow(**values)
