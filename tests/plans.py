"""How the databases would answer: the plan of every SELECT that a piece of code sends, and the full scans in it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, event, text

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store import Store

IN_ORDER = "Index Scan pk_"
LARGE = ("files", "jobs", "job_metadata", "events", "checkpoints", "models", "usage")


@dataclass(frozen=True, slots=True)
class Statement:
    """As it went to the driver, with its parameters."""

    sql: str
    parameters: object


@dataclass(slots=True)
class Heard:
    statements: list[Statement] = field(default_factory=list)


@contextmanager
def selects(store: Store) -> Iterator[Heard]:
    """Every different SELECT that the store sends inside the block."""
    heard = Heard()

    def listen(
        connection: Connection, cursor: object, sql: str, parameters: object, context: object, many: bool
    ) -> None:
        known = any(statement.sql == sql for statement in heard.statements)
        if sql.lstrip().startswith("SELECT") and not known:
            heard.statements.append(Statement(sql, parameters))

    event.listen(store.database.engine, "before_cursor_execute", listen)
    try:
        yield heard
    finally:
        event.remove(store.database.engine, "before_cursor_execute", listen)


def explain(store: Store, statement: Statement, *, seqscan: bool = True) -> list[str]:
    """One line a table that is read. `seqscan=False`: PostgreSQL takes an index even where a small table has none
    to gain from it, so that a missing one shows.
    """
    with store.database.write() as connection:  # a transaction, for SET LOCAL
        if store.database.is_sqlite:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.sql}", statement.parameters)  # type: ignore[arg-type]
            return [str(row[3]) for row in rows if str(row[3]).startswith(("SCAN", "SEARCH"))]
        if not seqscan:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement.parameters).scalar_one()  # type: ignore[arg-type]
        found = json.loads(plan) if isinstance(plan, str) else plan
        return [_line(node) for node in _nodes(found[0]["Plan"]) if "Relation Name" in node]


def full_scans(lines: Sequence[str]) -> list[str]:
    """The lines that read one of the large tables, or an index of it, from end to end.

    None of them: PostgreSQL walks a table in the order of its key where a project has much of it, and stops at the
    page's end. Not told apart: a short range of an index and a long one. `bench/storage/scale.py` measures that.
    """
    scans = [line for line in lines if line.startswith("SCAN") and IN_ORDER not in line]
    return [line for line in scans if any(f" {table} " in f"{line} " for table in LARGE)]


def _nodes(plan: JsonValue) -> Iterator[JsonObject]:
    if isinstance(plan, dict):
        yield plan
        children = plan.get("Plans", [])
        for child in children if isinstance(children, list) else []:
            yield from _nodes(child)


def _line(node: JsonObject) -> str:
    """PostgreSQL's node in SQLite's words. A bitmap's condition is shown again above its index."""
    table, kind = node["Relation Name"], node["Node Type"]
    condition = node.get("Index Cond") or node.get("Recheck Cond")
    index = f" {node['Index Name']}" if "Index Name" in node else ""
    return f"{'SEARCH' if condition else 'SCAN'} {table} {kind}{index} {condition or ''}".rstrip()
