"""A job's events: what is kept, in which order, and that a step is told once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import JobRow, Lease, NewEvent, Store

Running = Callable[..., Lease]


def metric(step: int, **data: float) -> NewEvent:
    values: JsonObject = {"step": step, **data}
    return NewEvent(f"Step {step}", type="metrics", data=values, step=step)


def test_an_event_comes_back_as_it_was_reported(store: Store, running: Running) -> None:
    lease = running()
    data: JsonObject = {"loss": 1e-7, "text": "天气 \ud800", "list": [1, None, {"a": True}]}
    store.queue.append(lease, [NewEvent("Achtung: ☃\0", level="warn", type="moderation_checks", data=data)])
    [event] = store.jobs.events(lease.job_id, limit=1).data
    assert (event.message, event.level, event.type, event.data) == (
        "Achtung: ☃\ufffd",
        "warn",
        "moderation_checks",
        data,
    )
    assert event.job_id == lease.job_id
    assert event.id.startswith("ftevent-")


def test_messages_and_metrics_are_told_apart_oldest_first(store: Store, running: Running) -> None:
    lease = running()
    store.queue.append(lease, [metric(1, loss=3.0), NewEvent("half way"), metric(2, loss=2.0)])
    assert store.jobs.messages(lease.job_id)[-1] == "half way"
    assert store.jobs.metrics(lease.job_id) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]


def test_a_repeated_step_keeps_its_first_report(store: Store, running: Running) -> None:
    lease = running()
    store.queue.append(lease, [metric(1, loss=3.0), metric(2, loss=2.0)])
    store.queue.append(lease, [metric(1, loss=9.0), metric(2, loss=9.0), metric(3, loss=1.0)])
    assert [data["loss"] for data in store.jobs.metrics(lease.job_id)] == [3.0, 2.0, 1.0]
    job = store.jobs.get(lease.job_id)
    assert job is not None
    assert job.last_step == 3


def test_a_step_within_one_report_counts_once(store: Store, running: Running) -> None:
    lease = running()
    store.queue.append(lease, [metric(2), metric(2), metric(1)])
    assert [data["step"] for data in store.jobs.metrics(lease.job_id)] == [2]


def test_an_empty_report_still_tells_the_plan(store: Store, running: Running) -> None:
    lease = running()
    before = store.jobs.events(lease.job_id, limit=100).data
    store.queue.append(lease, [], total_steps=12, estimated_finish=2_000_000_000)
    job = store.jobs.get(lease.job_id)
    assert job is not None
    assert (job.total_steps, job.estimated_finish, job.last_step) == (12, 2_000_000_000, 0)
    store.queue.append(lease, [])
    assert store.jobs.get(lease.job_id) == job
    assert store.jobs.events(lease.job_id, limit=100).data == before


def test_events_of_one_job_are_not_anothers(store: Store, running: Running) -> None:
    first, second = running(), running()
    store.queue.append(first, [NewEvent("of the first"), metric(1)])
    assert "of the first" not in store.jobs.messages(second.job_id)
    assert store.jobs.metrics(second.job_id) == []


def test_ids_are_different_and_pages_are_stable_under_new_events(store: Store, running: Running) -> None:
    lease = running()
    store.queue.append(lease, [NewEvent(str(number)) for number in range(30)])
    page = store.jobs.events(lease.job_id, limit=10)
    store.queue.append(lease, [NewEvent("later")])
    rest = store.jobs.events(lease.job_id, limit=10, after=page.data[-1].id)
    assert [event.message for event in rest.data] == [str(number) for number in range(19, 9, -1)]
    assert len({event.id for event in (*page.data, *rest.data)}) == 20


def test_reports_at_once_lose_nothing(store: Store, running: Running) -> None:
    lease = running()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: store.queue.append(lease, [NewEvent(f"report {number}")]), range(24)))
    reported = [text for text in store.jobs.messages(lease.job_id) if text.startswith("report")]
    assert sorted(reported) == sorted(f"report {number}" for number in range(24))


@pytest.mark.parametrize("change", ["pause", "cancel"])
def test_what_a_user_does_is_an_event(store: Store, make_job: Callable[..., JobRow], change: str) -> None:
    job = make_job()
    before = len(store.jobs.messages(job.id))
    getattr(store.jobs, change)(job.id)
    assert len(store.jobs.messages(job.id)) == before + 1
