"""Whose job is claimed next.

The projects take turns, and inside a project the oldest job comes first.

The turn of a project is the position of its row in `turns`: every claim moves it behind those of all others, so the
first is the project that was served longest ago, or never. Checking files and training have turns of their own, or a
project would lose its turn to train by having its file checked. Jobs that were training when their worker died come
before all turns.

What waits is found by one look into the index for each project, whatever the number of its jobs ("loose index scan").
"""

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    and_,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
)

from tunesmith.store.rows import JobStatus
from tunesmith.store.schema.tables import MAY_START, UNFINISHED, jobs, turns


def next_in_turn(statuses: Sequence[JobStatus], now: float) -> "Select[tuple[int, bool]]":
    """The `seq` of the job that is claimed next, with its row locked.

    `leased`: it has a lease, which has ended. No row means that none waits.
    """
    heads = _heads(statuses, now)
    turn = and_(turns.c.project == heads.c.project, turns.c.stage == heads.c.stage)
    return (
        select(jobs.c.seq, jobs.c.lease_until.is_not(None).label("leased"))
        .select_from(heads)
        .join(jobs, jobs.c.seq == heads.c.seq)
        .outerjoin(turns, turn)
        .order_by(heads.c.rank, func.coalesce(turns.c.seq, 0), heads.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True, of=jobs)
    )


def use_turn(connection: Connection, project: str, status: JobStatus) -> None:
    """Put the project behind all others."""
    stage = _stage(status)
    connection.execute(delete(turns).where(turns.c.project == project, turns.c.stage == stage))
    connection.execute(insert(turns).values(project=project, stage=stage))


def is_free(now: float) -> ColumnElement[bool]:
    """Nobody holds the job."""
    return or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now)


def _heads(statuses: Sequence[JobStatus], now: float) -> Subquery:
    """The oldest free job of each project and status."""
    return union_all(*(_heads_of(status, now) for status in statuses)).subquery("heads")


def _heads_of(status: JobStatus, now: float) -> "Select[tuple[int, str, str, int]]":
    waits = and_(UNFINISHED, MAY_START, jobs.c.status == status)
    first = select(func.min(jobs.c.project).label("project")).where(waits)
    walk = first.cte(f"projects_{status}", recursive=True)
    following = select(func.min(jobs.c.project)).where(waits, jobs.c.project > walk.c.project).scalar_subquery()
    walk = walk.union_all(select(following).where(walk.c.project.is_not(None)))
    oldest = select(jobs.c.seq).where(waits, jobs.c.project == walk.c.project, is_free(now))
    seq = oldest.order_by(jobs.c.seq).limit(1).scalar_subquery()
    rank = 0 if status is JobStatus.RUNNING else 1
    columns = (seq.label("seq"), walk.c.project, literal(_stage(status)).label("stage"), literal(rank).label("rank"))
    return select(*columns).where(walk.c.project.is_not(None))


def _stage(status: JobStatus) -> str:
    return "check" if status is JobStatus.VALIDATING else "train"
