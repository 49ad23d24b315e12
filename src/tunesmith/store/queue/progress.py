"""How far jobs are, for pages that show it while it changes.

What is new is read from a place on, so that a look at a job of 100,000 steps costs as little as one at a short job.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, and_, exists, literal, select

from tunesmith.jsonvalue import JsonObject
from tunesmith.store.objects.pagination import Cursor, by_time, fetch_page
from tunesmith.store.queue.events import event_row
from tunesmith.store.queue.jobs import job_row
from tunesmith.store.rows import ACTIVE, EventRow, JobRow, JobStatus, Page
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import UNFINISHED, events, jobs
from tunesmith.store.scope import EVERYBODY, Scope

METRICS = literal("metrics", literal_execute=True)


@dataclass(frozen=True, slots=True)
class Logged:
    """An event as a curve needs it.

    `seq` is its place; `metrics` is None for one that is no step.
    """

    seq: int
    created_at: int
    metrics: JsonObject | None


class ProgressStore:
    """Jobs by their state, and what their steps measured. It only reads."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    def within(self, scope: Scope) -> "ProgressStore":
        """The same store, limited to `scope`."""
        return ProgressStore(self._database, scope)

    def version(self) -> int | None:
        """Return a number that changes with every commit; None where it is unknown.

        It takes microseconds and never waits.
        """
        return self._database.data_version.read()

    def jobs(
        self, states: Sequence[JobStatus], *, paused: bool | None = None, limit: int = 20, after: str | None = None
    ) -> Page[JobRow]:
        """Return a page of the jobs in these states, newest first.

        `paused`: only those that are paused, or only those that are not.
        """
        wanted = UNFINISHED if tuple(states) == ACTIVE else jobs.c.status.in_(list(states))
        query = select(jobs).where(wanted, self._scope.of(jobs))
        if paused is not None:
            query = query.where(jobs.c.paused.is_(paused))
        place = by_time(jobs, self._scope)
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, jobs, Cursor(limit, after), self._scope, place)
        return Page(tuple(job_row(row) for row in rows), more)

    def after(self, job_id: str, seq: int, limit: int) -> list[Logged]:
        """Return a job's events after the place `seq`, oldest first.

        Places grow within a job, so whoever goes on from the last one misses nothing.
        """
        query = select(events.c.seq, events.c.created_at, events.c.type, events.c.data)
        query = query.where(self._of_job(events, job_id), events.c.seq > seq).order_by(events.c.seq).limit(limit)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [Logged(place, at, data if kind == "metrics" else None) for place, at, kind, data in rows]

    def log(self, job_id: str, seq: int, limit: int) -> list[tuple[int, EventRow]]:
        """Return a job's events after the place `seq` with their places, oldest first."""
        query = select(events).where(self._of_job(events, job_id), events.c.seq > seq)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(events.c.seq).limit(limit)).mappings().all()
        return [(row["seq"], event_row(row)) for row in rows]

    def newest_step(self, job_id: str) -> JsonObject | None:
        """Return what the last step measured; None before the first."""
        query = select(events.c.data).where(self._of_job(events, job_id), events.c.type == METRICS)
        with self._database.read() as connection:
            found: JsonObject | None = connection.execute(query.order_by(events.c.seq.desc()).limit(1)).scalar()
        return found

    def events(self, job_id: str, *, limit: int, after: str | None = None, with_steps: bool = False) -> Page[EventRow]:
        """Return a page of events, newest first; by themselves, or among the steps."""
        query = select(events).where(self._of_job(events, job_id))
        if not with_steps:
            query = query.where(events.c.type != METRICS)
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, events, Cursor(limit, after), EVERYBODY)
        return Page(tuple(event_row(row) for row in rows), more)

    def events_at(self, job_id: str, places: Sequence[int]) -> list[EventRow]:
        """Return the job's events at these places, newest first."""
        query = select(events).where(self._of_job(events, job_id), events.c.seq.in_(places))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(events.c.seq.desc())).mappings().all()
        return [event_row(row) for row in rows]

    def _of_job(self, table: Table, job_id: str) -> ColumnElement[bool]:
        """Rows of this job, if it is one that this store sees."""
        mine: ColumnElement[bool] = table.c.job_id == job_id
        if self._scope == EVERYBODY:
            return mine
        return and_(mine, exists().where(jobs.c.id == job_id, self._scope.of(jobs)))
