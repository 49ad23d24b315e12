"""The queue of runs as a runner sees it.

A runner claims a run, saves what its rows were answered while its lease holds, and finishes it. `attempt` is the fence,
as for jobs: whoever lost the run gets LeaseLost from its next write, and nothing of that write is kept. An answer is
committed with its usage and the run's sums, so that a process that is killed asks none of the saved rows again.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Connection, RowMapping, Select, Text, bindparam, or_, select, update

from tunesmith.store.accounts.usage import Account, add_usage, this_minute
from tunesmith.store.evals.rows import UNFINISHED, ItemRow, RunLease, RunRow, Saved, Totals
from tunesmith.store.evals.runs import RUNS, item_row, run_row
from tunesmith.store.evals.sums import COUNTED, Sums
from tunesmith.store.queue.leases import LeaseLost
from tunesmith.store.rows import Counts
from tunesmith.store.schema.db import RUN_CLAIM_KEY, Database
from tunesmith.store.schema.eval_tables import UNFINISHED_RUN, eval_items, eval_runs

_TEXTS = {
    "sample": bindparam("sample", type_=Text),
    "results": bindparam("results", type_=Text),
    "bytes": eval_items.c.bytes + bindparam("more", type_=BigInteger),
}
_OF_ITEM = update(eval_items).where(eval_items.c.id == bindparam("of_item", type_=Text))
KEEP = _OF_ITEM.values(_TEXTS)
END = _OF_ITEM.values(
    {
        **_TEXTS,
        "state": bindparam("state", type_=Text),
        "place": bindparam("place", type_=BigInteger),
        "created_at": bindparam("now", type_=BigInteger),
    }
)


class RunQueue:
    """The runner's side of runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, worker: str, lease_seconds: float) -> tuple[RunRow, RunLease] | None:
        """Claim the oldest run that nobody holds; None when there is none.

        A project has one run under way at a time, so that projects do not wait for each other's queues. `worker` is
        another name each time a process starts: what it holds itself, it does not take from itself.
        """
        with self._database.read() as connection:  # so an idle server never takes SQLite's only write lock
            if connection.execute(select(eval_runs.c.seq).where(UNFINISHED_RUN).limit(1)).first() is None:
                return None
        with self._database.write() as connection:
            self._database.advisory_lock(connection, RUN_CLAIM_KEY)
            now = self._database.clock(connection)
            ahead = update(eval_runs).where(UNFINISHED_RUN, eval_runs.c.lease_until > now + lease_seconds)
            connection.execute(ahead.values(lease_until=now + lease_seconds))  # the clock was set back
            seq = connection.execute(_next(now, worker)).scalar()
            if seq is None:
                return None
            values = {
                "status": "in_progress",
                "worker": worker,
                "lease_until": now + lease_seconds,
                "attempt": eval_runs.c.attempt + 1,
                "stalled": eval_runs.c.stalled + 1,
            }
            connection.execute(update(eval_runs).where(eval_runs.c.seq == seq).values(values))
            run = run_row(connection.execute(RUNS.where(eval_runs.c.seq == seq)).mappings().one())
        return run, RunLease(run.id, worker, run.attempt)

    def renew(self, lease: RunLease, lease_seconds: float) -> None:
        """Extend the lease by `lease_seconds` from now. Raises LeaseLost."""
        with self._database.write() as connection:
            _lock_held(connection, lease)
            _change(connection, lease, lease_until=self._database.clock(connection) + lease_seconds)

    def check_held(self, lease: RunLease) -> None:
        """Raise LeaseLost when the run was cancelled, deleted or taken; costs one read."""
        query = select(eval_runs).where(eval_runs.c.id == lease.run_id, eval_runs.c.deleted_at.is_(None))
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        _check_fence(row, lease)

    def release(self, lease: RunLease, *, stalled: bool = False) -> None:
        """Give an unfinished run back, so that it can be claimed at once.

        No error when it is not held any more. `stalled`: this attempt broke off, and there are only so many of those.
        """
        try:
            with self._database.write() as connection:
                row = _lock_held(connection, lease)
                attempts = row["stalled"] if stalled else max(0, row["stalled"] - 1)
                _change(connection, lease, worker=None, lease_until=None, stalled=attempts)
        except LeaseLost:
            return

    def waiting(self, lease: RunLease, after: int, limit: int) -> list[ItemRow]:
        """The next rows that have no end yet; `after` is the `seq` of the last one seen."""
        query = select(eval_items).where(
            eval_items.c.run_id == lease.run_id, eval_items.c.state == "waiting", eval_items.c.seq > after
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(eval_items.c.seq).limit(limit)).mappings().all()
        return [item_row(row) for row in rows]

    def save(self, lease: RunLease, saved: Sequence[Saved]) -> None:
        """Keep answers and results, with their usage and sums, in one transaction.

        Raises LeaseLost.
        """
        texts = [_Texts.of(one) for one in saved]  # before the lock is taken: others wait for it
        with self._database.write() as connection:
            row = _lock_held(connection, lease)
            sums = Sums({name: row[name] for name in COUNTED.values()}, Totals.from_json(row["totals"]))
            _save_items(connection, saved, texts, sums)
            add_usage(connection, _usage(row, sums))
            _change(connection, lease, stalled=0, **sums.values())

    def finish(self, lease: RunLease) -> None:
        """End a run whose rows are all done. Raises LeaseLost."""
        self._end(lease, status="completed")

    def fail(self, lease: RunLease, code: str, message: str) -> None:
        """End a run that cannot go on. Raises LeaseLost."""
        self._end(lease, status="failed", error={"code": code, "message": message})

    def _end(self, lease: RunLease, **values: object) -> None:
        with self._database.write() as connection:
            _lock_held(connection, lease)
            _change(connection, lease, worker=None, lease_until=None, **values)


def _usage(row: RowMapping, sums: Sums) -> Mapping[Account, Counts]:
    """What the project's usage grows by."""
    minute, key_id = this_minute(), row["key_id"] or ""
    return {
        Account(minute, row["project"], key_id, model): Counts(one.count, one.prompt, one.cached, one.completion)
        for model, one in sums.spent.items()
    }


@dataclass(frozen=True, slots=True)
class _Texts:
    """An item's columns of JSON as their texts, so that each is written as JSON once."""

    sample: str | None
    results: str

    @classmethod
    def of(cls, one: Saved) -> "_Texts":
        sample = None if one.sample is None else json.dumps(one.sample)
        return cls(sample, json.dumps(list(one.results)))

    @property
    def size(self) -> int:
        return len(self.sample or "null") + len(self.results)


def _save_items(connection: Connection, saved: Sequence[Saved], texts: Sequence[_Texts], sums: Sums) -> None:
    """Writes the items that have no end yet, all those of a kind at once, and adds them to the sums."""
    ids = {one.item_id for one in saved}
    query = select(eval_items.c.id).where(eval_items.c.id.in_(ids), eval_items.c.state == "waiting")
    waiting = set(connection.execute(query).scalars())
    kept: list[dict[str, object]] = []
    ended: list[dict[str, object]] = []
    for one, text in zip(saved, texts, strict=True):
        if one.item_id not in waiting:  # done already
            continue
        values: dict[str, object] = {
            "of_item": one.item_id,
            "sample": text.sample,
            "results": text.results,
            "more": text.size,
        }
        if one.state == "waiting":
            kept.append(values)
        else:
            waiting.discard(one.item_id)
            ended.append({**values, "state": one.state, "place": sums.done + 1, "now": int(time.time())})
        sums.add(one)
    for change, rows in ((KEEP, kept), (END, ended)):
        if rows:
            connection.execute(change, rows)


def _next(now: float, worker: str) -> Select[tuple[int]]:
    held = eval_runs.alias("held")
    in_hand = or_(held.c.lease_until >= now, held.c.worker == worker)
    busy = select(held.c.project).where(in_hand, held.c.deleted_at.is_(None))
    ended = (eval_runs.c.lease_until < now) & (eval_runs.c.worker != worker)
    free = or_(eval_runs.c.lease_until.is_(None), ended)
    query = select(eval_runs.c.seq).where(UNFINISHED_RUN, free, eval_runs.c.project.not_in(busy))
    return query.order_by(eval_runs.c.seq).limit(1)


def _lock_held(connection: Connection, lease: RunLease) -> RowMapping:
    query = select(eval_runs).where(eval_runs.c.id == lease.run_id, eval_runs.c.deleted_at.is_(None))
    return _check_fence(connection.execute(query.with_for_update()).mappings().one_or_none(), lease)


def _check_fence(row: RowMapping | None, lease: RunLease) -> RowMapping:
    if row is None:
        raise LeaseLost(f"The run {lease.run_id} was deleted.", code="deleted")
    finished = row["status"] not in UNFINISHED
    if row["worker"] == lease.worker and row["attempt"] == lease.attempt and not finished:
        return row
    code = str(row["status"]) if finished else "taken"
    raise LeaseLost(
        f"Runner {lease.worker} (attempt {lease.attempt}) no longer holds the run {lease.run_id}: it is {code} "
        f"(attempt {row['attempt']}, runner {row['worker']}).",
        code=code,
    )


def _change(connection: Connection, lease: RunLease, **values: object) -> None:
    """The caller has locked the row and checked the fence."""
    connection.execute(update(eval_runs).where(eval_runs.c.id == lease.run_id).values(**values))
