"""Jobs as the API sees them. What a worker does to them is in `leases`."""

import time
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    Text,
    and_,
    exists,
    func,
    insert,
    select,
    type_coerce,
    update,
)

from tunesmith.errors import InvalidRequest, NotFound, RateLimited
from tunesmith.jsonvalue import JsonObject
from tunesmith.store.ids import new_job_id, tuned_model_name
from tunesmith.store.objects.idempotency import CreateRequest, find_earlier, remember_request
from tunesmith.store.objects.pagination import Cursor, by_time, fetch_page
from tunesmith.store.queue.events import event_row, insert_events
from tunesmith.store.rows import CheckpointRow, EventRow, JobRow, JobStatus, NewEvent, NewJob, Page
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import UNFINISHED, checkpoints, clean_text, events, job_metadata, jobs
from tunesmith.store.scope import EVERYBODY, Scope

# A quote within a value is written \\", so that only a key of the options looks like this.
HAS_VERDICT = type_coerce(jobs.c.options, Text).like('%"evaluation": {%')


class JobStore:
    """Jobs, their events, checkpoints and metrics."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    def within(self, scope: Scope) -> "JobStore":
        """The same store, limited to `scope`."""
        return JobStore(self._database, scope)

    def create(self, job: NewJob, request: CreateRequest | None = None, *, most: int = 0) -> JobRow:
        """Create the job's row, which is also its queue entry, and its first event.

        Returns the job of an earlier attempt at the same `request` instead, if there was one. Raises RateLimited when
        the project has `most` unfinished jobs (0: no limit).
        """
        values = _new_row(job)
        with self._database.write() as connection:
            made = find_earlier(self._database, connection, request) if request else None
            if made is not None:
                return lock_job(connection, made, self._scope)
            _demand_fewer(connection, job.project, most)
            inserted = connection.execute(insert(jobs).values(values).returning(jobs)).mappings().one()
            row = job_row(inserted)
            insert_pairs(connection, inserted, job.metadata or {})
            insert_events(connection, row.id, [NewEvent(f"Created fine-tuning job: {row.id}")])
            if request:
                remember_request(connection, request, row.id)
        return row

    def get(self, job_id: str) -> JobRow | None:
        """Return a job; None when it is unknown."""
        with self._database.read() as connection:
            query = select(jobs).where(jobs.c.id == job_id, self._scope.of(jobs))
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else job_row(row)

    def among(self, job_ids: Collection[str]) -> dict[str, JobRow]:
        """Return those of these jobs that exist, by their ids."""
        if not job_ids:
            return {}
        query = select(jobs).where(jobs.c.id.in_(job_ids), self._scope.of(jobs))
        with self._database.read() as connection:
            return {row["id"]: job_row(row) for row in connection.execute(query).mappings()}

    def page(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        metadata: dict[str, str] | None = None,
        without_metadata: bool = False,
        evaluated: bool = False,
    ) -> Page[JobRow]:
        """Return a page of jobs, newest first by the time of their creation.

        `metadata`: all pairs must match; `without_metadata`: only jobs whose metadata is null; `evaluated`: only those
        that ended with a verdict.
        """
        if metadata:
            query, place = self._with_pairs(list(metadata.items())), by_time(job_metadata, self._scope)
        else:
            query, place = select(jobs).where(self._scope.of(jobs)), by_time(jobs, self._scope)
        if without_metadata:
            query = query.where(jobs.c.metadata.is_(None))
        if evaluated:
            query = query.where(jobs.c.status == JobStatus.SUCCEEDED.value, HAS_VERDICT)
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, jobs, Cursor(limit, after), self._scope, place)
        return Page(tuple(job_row(row) for row in rows), more)

    def _with_pairs(self, pairs: Sequence[tuple[str, str]]) -> "Select[*tuple[object, ...]]":
        """Walk the jobs with the first pair; look every other pair up in a set."""
        query = select(jobs).join(job_metadata, job_metadata.c.seq == jobs.c.seq)
        query = query.where(self._pair(job_metadata, *pairs[0]))
        for number, pair in enumerate(pairs[1:]):
            other = job_metadata.alias(f"pair_{number}")
            query = query.where(job_metadata.c.seq.in_(select(other.c.seq).where(self._pair(other, *pair))))
        return query

    def _pair(self, table: FromClause, key: str, value: str) -> ColumnElement[bool]:
        return and_(self._scope.of(table), table.c.key == key, table.c.value == value)

    def cancel(self, job_id: str) -> JobRow:
        """Cancel an active job at once.

        The worker's next write is refused, and it stops the trainer. Raises NotFound (fine_tune_not_found), and
        InvalidRequest when the job has ended.
        """
        with self._database.write() as connection:
            job = lock_job(connection, job_id, self._scope)
            _check_active(job, "cancelled")
            event = NewEvent("Fine tuning process stopping due to job cancellation", level="warn")
            insert_events(connection, job_id, [event])
            return _leave(connection, job_id, status=JobStatus.CANCELLED, estimated_finish=None)

    def pause(self, job_id: str) -> JobRow:
        """Put a job back to `queued`, not to be claimed until `resume`.

        A validation that is under way ends first. Raises as `cancel` does.
        """
        with self._database.write() as connection:
            job = lock_job(connection, job_id, self._scope)
            _check_active(job, "paused")
            if job.paused:
                return job
            insert_events(connection, job_id, [NewEvent("Fine-tuning job paused")])
            if job.status is not JobStatus.RUNNING:
                return _change(connection, job_id, paused=True)
            return _leave(connection, job_id, status=JobStatus.QUEUED, paused=True, estimated_finish=None)

    def resume(self, job_id: str) -> JobRow:
        """Let a paused job be claimed again; it continues from its newest checkpoint.

        Raises InvalidRequest when it is not paused.
        """
        with self._database.write() as connection:
            job = lock_job(connection, job_id, self._scope)
            _check_active(job, "resumed")
            if not job.paused:
                raise InvalidRequest(f"Job {job_id} is not paused (status {job.status}): there is nothing to resume.")
            insert_events(connection, job_id, [NewEvent("Fine-tuning job resumed")])
            return _change(connection, job_id, paused=False)

    def using(self, file_ids: Sequence[str], *, limit: int = 1000) -> list[tuple[str, str]]:
        """Return (file, job) for the newest jobs that use any of these files."""
        pairs: list[tuple[str, str, int]] = []
        for column in (jobs.c.training_file, jobs.c.validation_file):
            query = select(column, jobs.c.id, jobs.c.seq).where(column.in_(file_ids), self._scope.of(jobs))
            with self._database.read() as connection:
                found = connection.execute(query.order_by(jobs.c.seq.desc()).limit(limit))
                pairs += [(file, job, seq) for file, job, seq in found]
        newest = sorted(pairs, key=lambda pair: pair[2], reverse=True)
        return [(file, job) for file, job, _ in newest]

    def any_to_do(self) -> bool:
        """Whether a worker has, or will have, something to do; paused jobs do not count."""
        query = select(jobs.c.id).where(UNFINISHED, jobs.c.paused.is_(False), self._scope.of(jobs)).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def events(self, job_id: str, *, limit: int = 20, after: str | None = None) -> Page[EventRow]:
        """Return a page of events, newest first; empty for an unknown job."""
        query = select(events).where(self._of_job(events, job_id))
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, events, Cursor(limit, after), EVERYBODY)
        return Page(tuple(event_row(row) for row in rows), more)

    def checkpoints(self, job_id: str, *, limit: int = 10, after: str | None = None) -> Page[CheckpointRow]:
        """Return a page of checkpoints, newest first; empty for an unknown job."""
        query = select(checkpoints).where(self._of_job(checkpoints, job_id))
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, checkpoints, Cursor(limit, after), EVERYBODY)
        return Page(tuple(checkpoint_row(row) for row in rows), more)

    def messages(self, job_id: str) -> list[str]:
        """Return the text of every message event, oldest first."""
        query = select(events.c.message).where(self._of_job(events, job_id), events.c.type == "message")
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(events.c.seq)).scalars())

    def metrics(self, job_id: str) -> list[JsonObject]:
        """Return the data of every metrics event, by step."""
        query = select(events.c.data).where(self._of_job(events, job_id), events.c.type == "metrics")
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(events.c.seq)).scalars())

    def _of_job(self, table: FromClause, job_id: str) -> ColumnElement[bool]:
        """Rows of this job, if it is one that this store sees."""
        mine: ColumnElement[bool] = table.c.job_id == job_id
        if self._scope == EVERYBODY:
            return mine
        return and_(mine, exists().where(jobs.c.id == job_id, self._scope.of(jobs)))


def no_job(job_id: str) -> NotFound:
    """The error for a job that is not there: OpenAI's words, and what to do."""
    message = f"Could not find fine tune: {job_id}. GET /v1/fine_tuning/jobs lists the jobs of this project."
    return NotFound(message, param="fine_tune_id", code="fine_tune_not_found")


def lock_job(connection: Connection, job_id: str, scope: Scope) -> JobRow:
    """Return the job's row, locked until the transaction ends.

    Events of one job are therefore written one transaction at a time. Raises NotFound.
    """
    query = select(jobs).where(jobs.c.id == job_id, scope.of(jobs)).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise no_job(job_id)
    return job_row(row)


def insert_pairs(connection: Connection, inserted: RowMapping, pairs: Mapping[str, str]) -> None:
    """Insert the metadata of the job in the row `inserted` where lists search for it."""
    job = {"job_id": inserted["id"], **{name: inserted[name] for name in ("project", "created_at", "seq")}}
    clean = {clean_text(key): value for key, value in pairs.items()}
    if clean:
        connection.execute(insert(job_metadata), [{**job, "key": key, "value": clean[key]} for key in clean])


def job_row(row: RowMapping) -> JobRow:
    """The row as the store returns it."""
    values = {name: row[name] for name in JobRow.__slots__}
    values["status"] = JobStatus(row["status"])
    values["result_files"] = tuple(row["result_files"])
    values["integrations"] = tuple(row["integrations"])
    return JobRow(**values)


def checkpoint_row(row: RowMapping) -> CheckpointRow:
    """The row as the store returns it."""
    return CheckpointRow(
        id=row["id"],
        job_id=row["job_id"],
        created_at=row["created_at"],
        fine_tuned_model_checkpoint=row["model"],
        step_number=row["step"],
        metrics=row["metrics"],
    )


def _new_row(job: NewJob) -> dict[str, object]:
    return {
        "id": new_job_id(),
        "model": job.model,
        "created_at": int(time.time()),
        "organization_id": f"org-{job.organization}",
        "result_files": [],
        "status": JobStatus.VALIDATING,
        "validation_file": job.validation_file,
        "training_file": job.training_file,
        "hyperparameters": job.hyperparameters,
        "user_provided_suffix": job.suffix,
        "seed": job.seed,
        "integrations": list(job.integrations),
        "metadata": job.metadata,
        "method": job.method,
        "project": job.project,
        "key_id": job.key_id,
        "base_model": job.base_model,
        "planned_model": tuned_model_name(job.base_model, job.organization, job.suffix),
        "options": job.options,
    }


def _check_active(job: JobRow, verb: str) -> None:
    if job.status.finished:
        raise InvalidRequest(f"Job {job.id} has already ended (status {job.status}): it cannot be {verb}.")


def _leave(connection: Connection, job_id: str, **values: object) -> JobRow:
    """Change a job and take it from the worker that holds it."""
    return _change(connection, job_id, worker=None, lease_until=None, **values)


def _change(connection: Connection, job_id: str, **values: object) -> JobRow:
    statement = update(jobs).where(jobs.c.id == job_id).values(**values).returning(jobs)
    return job_row(connection.execute(statement).mappings().one())


def _demand_fewer(connection: Connection, project: str, most: int) -> None:
    """In the transaction that adds a job: on SQLite nobody else adds one meanwhile."""
    if not most:
        return
    query = select(func.count()).select_from(jobs).where(UNFINISHED, jobs.c.project == project)
    if int(connection.execute(query).scalar_one()) >= most:
        raise RateLimited(
            f"Project {project} has {most:,} unfinished jobs, the limit here (setting limit_unfinished_jobs). Create "
            "this one when one of them has ended, or cancel some.",
            code="unfinished_jobs_limit",
        )
