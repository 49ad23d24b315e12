"""The queue as a worker sees it.

A worker claims a job, writes to it while its lease holds, and finishes it. The job's row is the queue entry. `attempt`
is the fence: a worker that lost its job (it was silent for longer than its lease, or a user cancelled or paused) gets
LeaseLost from its next write, and nothing of that write is kept.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, func, select, update

from tunesmith.errors import NotFound, ServerFault, TunesmithError
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store.accounts.usage import Account, add_usage, this_minute
from tunesmith.store.evals.finished import insert_finished_eval
from tunesmith.store.objects.blobs import BlobStore
from tunesmith.store.objects.files import RESULTS, insert_file
from tunesmith.store.objects.made_models import drop_checkpoints, insert_checkpoint, register_model
from tunesmith.store.queue.events import insert_events
from tunesmith.store.queue.jobs import job_row, lock_job
from tunesmith.store.queue.turns import is_free, next_in_turn, use_turn
from tunesmith.store.rows import (
    TRANSITIONS,
    Counts,
    JobOutcome,
    JobRow,
    JobStatus,
    Lease,
    NewCheckpoint,
    NewEvent,
    NewFile,
)
from tunesmith.store.schema.db import CLAIM_KEY, Database
from tunesmith.store.schema.tables import LEASED, MAY_START, UNFINISHED, checkpoints, jobs
from tunesmith.store.scope import EVERYBODY

SPARE_SECONDS = 0.5  # a waiting writer tries again every 0.1 s
LOOKS = 10


class LeaseLost(TunesmithError):
    """A write by a worker that no longer holds the job.

    `code` says why: cancelled, paused, taken, succeeded or failed.
    """


class Queue:
    """The worker's side of jobs. `root` is the data directory."""

    def __init__(self, database: Database, blobs: BlobStore, root: Path) -> None:
        self._database = database
        self._blobs = blobs
        self._root = root

    def claim(self, worker: str, statuses: Sequence[JobStatus], lease_seconds: float) -> tuple[JobRow, Lease] | None:
        """Claim the next job in `statuses` that nobody holds; None when there is none.

        The projects take turns (see `turns`). A lease that has ended is looked at twice: its holder may be waiting to
        renew it, behind the writer that we have waited for, or the whole machine was asleep.
        """
        with self._database.read() as connection:  # so an idle worker never takes SQLite's only write lock
            if not self._worth_claiming(connection, statuses, lease_seconds):
                return None
        spared: int | None = None
        for _ in range(LOOKS):
            asked = time.monotonic()
            with self._database.write() as connection:
                self._database.advisory_lock(connection, CLAIM_KEY)  # the turn is used before the next worker looks
                now = self._database.clock(connection)
                _cap_leases(connection, now + lease_seconds)
                found = connection.execute(next_in_turn(statuses, now)).one_or_none()
                if found is None:
                    return None
                waited = time.monotonic() - asked > SPARE_SECONDS
                if not found.leased or (spared == found.seq and not waited):
                    return _take(connection, found.seq, worker, now + lease_seconds)
            spared = found.seq
            time.sleep(SPARE_SECONDS)
        return None

    def _worth_claiming(self, connection: Connection, statuses: Sequence[JobStatus], lease_seconds: float) -> bool:
        now = self._database.clock(connection)
        waits = select(jobs.c.seq).where(UNFINISHED, MAY_START, jobs.c.status.in_(list(statuses)), is_free(now))
        ahead = select(jobs.c.seq).where(LEASED, jobs.c.lease_until > now + lease_seconds)
        return any(connection.execute(query.limit(1)).first() is not None for query in (waits, ahead))

    def renew(self, lease: Lease, lease_seconds: float) -> None:
        """Extend the lease by `lease_seconds` from now. Raises LeaseLost."""
        with self._database.write() as connection:
            _lock_held(connection, lease)
            _update(connection, lease, lease_until=self._database.clock(connection) + lease_seconds)

    def check_held(self, lease: Lease) -> None:
        """Raise LeaseLost when the job was cancelled, paused or taken; costs one read."""
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == lease.job_id)).mappings().one()
        _check_fence(job_row(row), lease)

    def release(self, lease: Lease) -> None:
        """Give an unfinished job back, so that another worker can claim it at once.

        No error when it is not held any more.
        """
        try:
            with self._database.write() as connection:
                _lock_held(connection, lease)
                _update(connection, lease, worker=None, lease_until=None)
        except LeaseLost:
            return

    def append(
        self,
        lease: Lease,
        events: Sequence[NewEvent],
        *,
        total_steps: int | None = None,
        estimated_finish: int | None = None,
    ) -> None:
        """Append what the trainer reported.

        An event whose `step` was reported before is dropped: a resumed trainer repeats the steps after its checkpoint.
        """
        with self._database.write() as connection:
            job = _lock_held(connection, lease)
            last_step, fresh = _unreported(events, job.last_step)
            insert_events(connection, job.id, fresh)
            values: dict[str, object] = {"last_step": last_step}
            if total_steps is not None:
                values["total_steps"] = total_steps
            if estimated_finish is not None:
                values["estimated_finish"] = estimated_finish
            _update(connection, lease, **values)

    def add_checkpoint(self, lease: Lease, checkpoint: NewCheckpoint, *, keep: int = 3) -> None:
        """Add a checkpoint and its model; drop all but the newest `keep`.

        A step at or before the newest checkpoint is ignored: a resumed trainer repeats what it reported. The trainer
        removes the files of dropped checkpoints while it runs, `models.clean` does afterwards.
        """
        with self._database.write() as connection:
            job = _lock_held(connection, lease)
            newest = select(func.max(checkpoints.c.step)).where(checkpoints.c.job_id == job.id)
            if checkpoint.step > (connection.execute(newest).scalar() or 0):
                insert_checkpoint(connection, job, checkpoint, self._root)
                drop_checkpoints(connection, job.id, keep)

    def set_status(
        self,
        lease: Lease,
        status: JobStatus,
        events: Sequence[NewEvent] = (),
        *,
        hyperparameters: JsonObject | None = None,
        system_message: str | None = None,
    ) -> JobRow:
        """Move the job to its next state, with events; `queued` ends the lease.

        `system_message` is that of its training file; None changes nothing.

        Raises ServerFault for a transition that does not exist.
        """
        with self._database.write() as connection:
            job = _lock_held(connection, lease)
            values = _transition(job, status)
            if status is JobStatus.QUEUED:
                values |= {"worker": None, "lease_until": None}
            if hyperparameters is not None:
                values |= {"hyperparameters": hyperparameters, "method": _with_numbers(job.method, hyperparameters)}
            if system_message is not None:
                values["system_message"] = system_message
            insert_events(connection, job.id, events)
            return _update(connection, lease, **values)

    def finish(self, lease: Lease, outcome: JobOutcome) -> JobRow:
        """Write result file, model, status and last events in one transaction.

        The next request that sees `succeeded` finds them all.
        """
        with self._database.write() as connection:
            job = _lock_held(connection, lease)
            values = _transition(job, JobStatus.SUCCEEDED)
            register_model(connection, job, job.planned_model, outcome.adapter_dir, self._root, step=None)
            values |= _insert_results(connection, job, outcome)
            insert_events(connection, job.id, outcome.events)
            account = Account(this_minute(), job.project, job.key_id or "", job.base_model)
            add_usage(connection, {account: Counts(trained_tokens=outcome.trained_tokens)})
            row = _update(
                connection,
                lease,
                finished_at=int(time.time()),
                fine_tuned_model=job.planned_model,
                trained_tokens=outcome.trained_tokens,
                estimated_finish=None,
                worker=None,
                lease_until=None,
                **values,
            )
        for blob in (outcome.result, outcome.evaluation):
            if blob is not None:
                self._blobs.claim(blob)
        return row

    def fail(self, lease: Lease, *, code: str, message: str, param: str | None = None) -> JobRow:
        """Set `failed`, with an error object and an event that say the same.

        `finished_at` stays null, as at OpenAI.
        """
        with self._database.write() as connection:
            job = _lock_held(connection, lease)
            error: JsonObject = {"code": code, "param": param, "message": message}
            insert_events(connection, job.id, [NewEvent(message, level="error")])
            values = _transition(job, JobStatus.FAILED)
            return _update(
                connection, lease, error=error, worker=None, lease_until=None, estimated_finish=None, **values
            )


def _insert_results(connection: Connection, job: JobRow, outcome: JobOutcome) -> dict[str, object]:
    """Inserts the result files and the eval; the columns of the job that name them."""
    named = ((outcome.result, outcome.result_name), (outcome.evaluation, "evaluation.json"))
    values: dict[str, object] = {"result_files": [blob.id for blob, _ in named if blob is not None]}
    for blob, name in named:
        if blob is not None:
            insert_file(connection, blob, NewFile(RESULTS, name, "processed", project=job.project))
    if outcome.verdict is not None:
        shown = outcome.verdict
        if outcome.eval is not None and outcome.evaluation is not None:
            shown = {**shown, "eval_id": insert_finished_eval(connection, outcome.eval, outcome.evaluation.id)}
        values["options"] = {**job.options, "evaluation": shown}
    return values


def _take(connection: Connection, seq: int, worker: str, lease_until: float) -> tuple[JobRow, Lease]:
    values = {"worker": worker, "lease_until": lease_until, "attempt": jobs.c.attempt + 1}
    taken = update(jobs).where(jobs.c.seq == seq).values(values).returning(jobs)
    job = job_row(connection.execute(taken).mappings().one())
    use_turn(connection, job.project, job.status)
    return job, Lease(job.id, worker, job.attempt)


def _cap_leases(connection: Connection, latest: float) -> None:
    """End leases by `latest` that were written before the clock was set back.

    Their holders, if they live, renew them as before.
    """
    connection.execute(update(jobs).where(LEASED, jobs.c.lease_until > latest).values(lease_until=latest))


def _lock_held(connection: Connection, lease: Lease) -> JobRow:
    try:
        job = lock_job(connection, lease.job_id, EVERYBODY)
    except NotFound as error:
        raise LeaseLost(error.message, code="taken") from error
    _check_fence(job, lease)
    return job


def _check_fence(job: JobRow, lease: Lease) -> None:
    if job.worker == lease.worker and job.attempt == lease.attempt and not job.status.finished:
        return
    code = str(job.status) if job.status.finished else "paused" if job.paused and job.worker is None else "taken"
    raise LeaseLost(
        f"Worker {lease.worker} (attempt {lease.attempt}) no longer holds job {job.id}: it is {code}"
        f" (attempt {job.attempt}, worker {job.worker}).",
        code=code,
    )


def _transition(job: JobRow, status: JobStatus) -> dict[str, object]:
    if status not in TRANSITIONS[job.status]:
        raise ServerFault(f"Job {job.id} cannot go from {job.status} to {status}.")
    return {"status": status}


def _update(connection: Connection, lease: Lease, **values: object) -> JobRow:
    """The caller has locked the row and checked the fence."""
    statement = update(jobs).where(jobs.c.id == lease.job_id).values(**values).returning(jobs)
    return job_row(connection.execute(statement).mappings().one())


def _unreported(events: Sequence[NewEvent], last_step: int) -> tuple[int, list[NewEvent]]:
    fresh = []
    for event in events:
        if event.step is not None:
            if event.step <= last_step:
                continue
            last_step = event.step
        fresh.append(event)
    return last_step, fresh


def _with_numbers(method: JsonObject, hyperparameters: JsonObject) -> JsonObject:
    """The numbers appear in both places of the wire's job object."""
    kind = str(method["type"])
    part: JsonValue = method.get(kind)
    details: JsonObject = dict(part) if isinstance(part, dict) else {}
    return method | {kind: details | {"hyperparameters": hyperparameters}}
