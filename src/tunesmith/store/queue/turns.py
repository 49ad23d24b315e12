"""Whose job is claimed next.

The projects take turns, and inside a project the oldest job comes first.

The turn of a project is the position of its row in `turns`: every claim moves it behind those of all others, so the
first is the project that was served longest ago, or never. Checking files and training have turns of their own, or a
project would lose its turn to train by having its file checked. Jobs that were training when their worker died come
before all turns.

What waits is found by one look into the index for each project, whatever the number of its jobs ("loose index scan").
"""

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Float,
    Select,
    and_,
    bindparam,
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
    return _in_turn(tuple(statuses)).params(now=now)


@lru_cache(maxsize=8)
def _in_turn(statuses: tuple[JobStatus, ...]) -> "Select[tuple[int, bool]]":
    """Kept, as it takes longer to write than to answer."""
    heads = union_all(*map(_heads_of, statuses)).subquery("heads")
    turn = and_(turns.c.project == jobs.c.project, turns.c.stage == heads.c.stage)
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


def is_free(now: float | BindParameter[float]) -> ColumnElement[bool]:
    """Nobody holds the job."""
    return or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now)


def _heads_of(status: JobStatus) -> "Select[tuple[int, str, int]]":
    """The oldest free job of each project, from one project to the next."""
    free = is_free(bindparam("now", type_=Float))
    waits = select(jobs.c.seq).where(UNFINISHED, MAY_START, jobs.c.status == status, free)
    first = waits.order_by(jobs.c.project, jobs.c.seq).limit(1).scalar_subquery()
    walk = select(first.label("seq")).cte(f"heads_{status}", recursive=True)
    last = jobs.alias()
    served = select(last.c.project).where(last.c.seq == walk.c.seq).correlate(walk).scalar_subquery()
    behind = jobs.c.project > served
    following = waits.where(behind).order_by(jobs.c.project, jobs.c.seq).limit(1).correlate(walk).scalar_subquery()
    walk = walk.union_all(select(following).where(walk.c.seq.is_not(None)))
    rank = 0 if status is JobStatus.RUNNING else 1
    columns = (walk.c.seq, literal(_stage(status)).label("stage"), literal(rank).label("rank"))
    return select(*columns).where(walk.c.seq.is_not(None))


def _stage(status: JobStatus) -> str:
    return "check" if status is JobStatus.VALIDATING else "train"
