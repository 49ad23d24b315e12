"""The projects take turns at the queue."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import insert, select, update
from tests.plans import Statement, explain, full_scans

from tunesmith.store import JobRow, JobStatus, Store
from tunesmith.store.queue.turns import next_in_turn
from tunesmith.store.schema.tables import jobs

MakeJob = Callable[..., JobRow]
TO_TRAIN = [JobStatus.QUEUED, JobStatus.RUNNING]


@pytest.fixture
def queue_jobs(store: Store, make_job: MakeJob) -> Callable[[str, int], None]:
    """Copies of one job, checked and waiting to train."""

    def queue(project: str, count: int, **changes: object) -> None:
        job = make_job(project=project)
        with store.database.write() as connection:
            row = dict(connection.execute(select(jobs).where(jobs.c.id == job.id)).mappings().one())
            row |= {"status": JobStatus.QUEUED, **changes}
            del row["seq"]
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(**row))
            copies = [{**row, "id": f"{job.id}{n}", "planned_model": f"{job.id}:{n}"} for n in range(count - 1)]
            if copies:
                connection.execute(insert(jobs), copies)

    return queue


def claim(store: Store, worker: str = "one") -> str:
    claimed = store.queue.claim(worker, TO_TRAIN, 30)
    assert claimed is not None
    return claimed[0].project


def test_the_first_job_of_another_project_starts_before_299_that_came_earlier(
    store: Store, queue_jobs: Callable[..., None]
) -> None:
    queue_jobs("large", 300)
    assert claim(store) == "large"
    queue_jobs("small", 1)
    assert [claim(store, f"worker {number}") for number in range(3)] == ["small", "large", "large"]


def test_several_workers_serve_the_projects_in_turn_and_each_in_order(
    store: Store, queue_jobs: Callable[..., None]
) -> None:
    for project, count in (("a", 20), ("b", 10), ("c", 5)):
        queue_jobs(project, count)
    claims: list[tuple[int, str, str]] = []

    def work(name: str) -> None:
        while (claimed := store.queue.claim(name, TO_TRAIN, 30)) is not None:
            claims.append((claimed[0].attempt, claimed[0].project, claimed[0].id))

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job for _, _, job in claims}) == len(claims) == 35
    with store.database.read() as connection:
        order = {row.id: row.seq for row in connection.execute(select(jobs.c.id, jobs.c.seq))}
    assert all(attempt == 1 for attempt, _, _ in claims)
    served = [project for _, project, _ in claims]
    assert [served[:12].count(project) for project in "abc"] == pytest.approx([4, 4, 4], abs=2)
    for project in "abc":  # threads note their claims a little after they make them
        mine = [order[job] for _, owner, job in claims if owner == project]
        assert all(abs(place - sorted(mine).index(seq)) <= 4 for place, seq in enumerate(mine))


def test_a_checked_file_does_not_use_up_the_turn_to_train(
    store: Store, make_job: MakeJob, queue_jobs: Callable[..., None]
) -> None:
    queue_jobs("large", 3)
    assert claim(store) == "large"
    make_job(project="small")
    checked = store.queue.claim("one", [JobStatus.VALIDATING], 30)
    assert checked is not None
    store.queue.set_status(checked[1], JobStatus.QUEUED)
    assert claim(store) == "small"


def test_a_job_that_was_training_goes_on_before_all_turns(store: Store, queue_jobs: Callable[..., None]) -> None:
    queue_jobs("large", 2)
    claimed = store.queue.claim("one", TO_TRAIN, 30)
    assert claimed is not None
    store.queue.set_status(claimed[1], JobStatus.RUNNING)
    queue_jobs("small", 1)
    store.queue.release(claimed[1])
    again = store.queue.claim("two", TO_TRAIN, 30)
    assert again is not None
    assert again[0].id == claimed[0].id
    assert claim(store) == "small"


def test_paused_jobs_of_a_project_are_passed_over(store: Store, queue_jobs: Callable[..., None]) -> None:
    queue_jobs("large", 3, paused=True)
    assert store.queue.claim("one", TO_TRAIN, 30) is None
    queue_jobs("large", 1)
    assert claim(store) == "large"
    assert store.queue.claim("one", TO_TRAIN, 30) is None


def test_a_claim_looks_at_one_job_of_each_project(store: Store, queue_jobs: Callable[..., None]) -> None:
    queue_jobs("large", 300)
    queue_jobs("small", 2)
    query = next_in_turn([*TO_TRAIN, JobStatus.VALIDATING], time.time())
    with store.database.read() as connection:
        compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
    plan = explain(store, Statement(str(compiled), ()), seqscan=False)
    assert full_scans(plan) == []
    heads = [line for line in plan if "ix_jobs_claim" in line]
    # Of each status the first project's oldest job, and the next one's, which PostgreSQL's plan shows in its cost only.
    assert len(heads) >= (6 if store.database.is_sqlite else 3)


@pytest.mark.parametrize("set_back", [3600.0, 10 * 86_400.0], ids=["an hour", "ten days"])
def test_a_lease_of_a_clock_that_was_set_back_ends_within_its_length(
    store: Store, make_job: MakeJob, set_back: float
) -> None:
    job = make_job()
    assert store.queue.claim("dead", [JobStatus.VALIDATING], 30) is not None
    with store.database.write() as connection:
        connection.execute(update(jobs).values(lease_until=time.time() + set_back + 30))
    assert store.queue.claim("two", [JobStatus.VALIDATING], 0.5) is None  # its holder may live: it has 0.5 s
    time.sleep(0.8)
    claimed = store.queue.claim("two", [JobStatus.VALIDATING], 0.5)
    assert claimed is not None
    assert (claimed[0].id, claimed[1].attempt) == (job.id, 2)


def test_a_living_worker_keeps_its_job_when_the_clock_is_set_back(store: Store, make_job: MakeJob) -> None:
    make_job()
    claimed = store.queue.claim("one", [JobStatus.VALIDATING], 30)
    assert claimed is not None
    with store.database.write() as connection:
        connection.execute(update(jobs).values(lease_until=time.time() + 3600))
    for _ in range(3):
        assert store.queue.claim("two", [JobStatus.VALIDATING], 30) is None
    store.queue.renew(claimed[1], 30)
    store.queue.check_held(claimed[1])
