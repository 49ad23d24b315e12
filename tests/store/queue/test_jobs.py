"""Jobs as the API sees them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import ACTIVE, JobOutcome, JobRow, JobStatus, Lease, LeaseLost, NewEvent, Store
from tunesmith.store.rows import TRANSITIONS

MakeJob = Callable[..., JobRow]
Running = Callable[..., Lease]


def messages(store: Store, job_id: str) -> list[str]:
    """Oldest first."""
    return [event.message for event in reversed(store.jobs.events(job_id, limit=1000).data)]


def test_a_new_job_has_its_row_and_its_first_event(store: Store, make_job: MakeJob) -> None:
    job = make_job(suffix="Wetter Bot", metadata={"a": "1"}, integrations=({"type": "wandb"},), options={"x": 1})
    assert store.jobs.get(job.id) == job
    assert job.status is JobStatus.VALIDATING
    assert job.user_provided_suffix == "Wetter Bot"
    assert job.planned_model.startswith("ft:base:acme:wetter-bot:")
    assert (job.fine_tuned_model, job.finished_at, job.error, job.result_files) == (None, None, None, ())
    assert (job.organization_id, job.metadata, job.options) == ("org-acme", {"a": "1"}, {"x": 1})
    (event,) = store.jobs.events(job.id).data
    assert (event.message, event.level, event.type, event.data) == (
        f"Created fine-tuning job: {job.id}",
        "info",
        "message",
        {},
    )


def test_an_unknown_job_is_none(store: Store) -> None:
    assert store.jobs.get("ftjob-x") is None
    assert store.jobs.events("ftjob-x").data == ()


def test_jobs_are_listed_newest_first_by_pages(store: Store, make_job: MakeJob) -> None:
    made = [make_job().id for _ in range(3)]
    page = store.jobs.page(limit=2)
    assert ([job.id for job in page.data], page.has_more) == (made[:0:-1], True)
    rest = store.jobs.page(limit=2, after=made[1])
    assert ([job.id for job in rest.data], rest.has_more) == (made[:1], False)
    assert store.jobs.page(limit=0, after="after").has_more is False


def test_jobs_that_ended_with_a_verdict_are_found(store: Store, make_job: MakeJob, tmp_path: Path) -> None:
    """Also where another option says such words, and where a job with a verdict has not ended."""
    verdict: JsonObject = {"evaluation": {"verdict": "better"}}
    found = make_job(options=verdict).id
    make_job(options={"note": '"evaluation": {'})
    make_job(options={"evaluate": True})
    made = [_succeed(store, tmp_path).id for _ in range(3)]
    assert found in made
    waiting = make_job(options=verdict).id
    assert [job.id for job in store.of("default").jobs.page(evaluated=True).data] == [found]
    assert _succeed(store, tmp_path).id == waiting
    assert [job.id for job in store.of("default").jobs.page(evaluated=True, limit=1).data] == [waiting]
    assert [job.id for job in store.of("default").jobs.page(evaluated=True, after=waiting).data] == [found]


def _succeed(store: Store, folder: Path) -> JobRow:
    for status, following in ((JobStatus.VALIDATING, JobStatus.QUEUED), (JobStatus.QUEUED, JobStatus.RUNNING)):
        _, lease = store.queue.claim("tests", [status], 60) or pytest.fail("nothing to claim")
        store.queue.set_status(lease, following)
    return store.queue.finish(lease, JobOutcome(folder, 1, None))


def test_jobs_are_found_by_metadata(store: Store, make_job: MakeJob) -> None:
    plain = make_job()
    one = make_job(metadata={"team": "weather", 'odd"key\0': "\ud800"})
    two = make_job(metadata={"team": "weather", "stage": "prod"})
    empty = make_job(metadata={})
    found = [job.id for job in store.jobs.page(metadata={"team": "weather"}).data]
    assert found == [two.id, one.id]
    assert [job.id for job in store.jobs.page(metadata={"team": "weather", "stage": "prod"}).data] == [two.id]
    assert [job.id for job in store.jobs.page(metadata={'odd"key\0': "\ud800"}).data] == [one.id]
    assert store.jobs.page(metadata={"team": "other"}).data == ()
    assert [job.id for job in store.jobs.page(metadata={"team": "weather"}, after=two.id).data] == [one.id]
    assert [job.id for job in store.jobs.page(metadata={"team": "weather"}, after=empty.id, limit=1).data] == [two.id]
    assert store.of("others").jobs.page(metadata={"team": "weather"}).data == ()
    assert [job.id for job in store.jobs.page(without_metadata=True).data] == [plain.id]
    assert store.jobs.get(empty.id) == empty


def test_events_keep_their_order_and_page_from_the_newest(store: Store, running: Running) -> None:
    lease = running()
    store.queue.append(lease, [NewEvent(str(number)) for number in range(50)])
    newest = store.jobs.events(lease.job_id, limit=20)
    assert [event.message for event in newest.data] == [str(number) for number in range(49, 29, -1)]
    assert newest.has_more
    rest = store.jobs.events(lease.job_id, limit=100, after=newest.data[-1].id)
    assert [event.message for event in rest.data][:30] == [str(number) for number in range(29, -1, -1)]
    assert not rest.has_more
    assert store.jobs.events(lease.job_id, after="after").data == ()


def test_null_and_empty_event_data_are_told_apart(store: Store, running: Running) -> None:
    lease = running()
    store.queue.append(lease, [NewEvent("null", data=None), NewEvent("empty")])
    empty, null = store.jobs.events(lease.job_id, limit=2).data
    assert (null.data, empty.data) == (None, {})


def test_a_waiting_job_is_cancelled_at_once(store: Store, make_job: MakeJob) -> None:
    job = store.jobs.cancel(make_job().id)
    assert (job.status, job.finished_at) == (JobStatus.CANCELLED, None)
    event = store.jobs.events(job.id).data[0]
    assert (event.level, event.message) == ("warn", "Fine tuning process stopping due to job cancellation")
    assert store.queue.claim("one", ACTIVE, 30) is None


def test_a_running_job_is_cancelled_at_once_and_its_worker_refused(store: Store, running: Running) -> None:
    lease = running()
    assert store.jobs.cancel(lease.job_id).status is JobStatus.CANCELLED
    with pytest.raises(LeaseLost) as lost:
        store.queue.append(lease, [NewEvent("too late")])
    assert lost.value.code == "cancelled"
    assert "too late" not in messages(store, lease.job_id)


@pytest.mark.parametrize("change", ["cancel", "pause", "resume"])
def test_a_finished_job_cannot_change(store: Store, make_job: MakeJob, change: str) -> None:
    job = store.jobs.cancel(make_job().id)
    with pytest.raises(InvalidRequest, match=r"has already ended \(status cancelled\)"):
        getattr(store.jobs, change)(job.id)


@pytest.mark.parametrize("change", ["cancel", "pause", "resume"])
def test_an_unknown_job_cannot_change(store: Store, change: str) -> None:
    with pytest.raises(NotFound, match="Could not find fine tune: ftjob-x") as error:
        getattr(store.jobs, change)("ftjob-x")
    assert (error.value.param, error.value.code) == ("fine_tune_id", "fine_tune_not_found")


def test_a_paused_job_waits_queued_until_it_is_resumed(store: Store, running: Running) -> None:
    lease = running()
    assert store.jobs.pause(lease.job_id).status is JobStatus.QUEUED
    with pytest.raises(LeaseLost) as lost:
        store.queue.check_held(lease)
    assert lost.value.code == "paused"
    assert store.queue.claim("two", [JobStatus.QUEUED, JobStatus.RUNNING], 30) is None
    store.jobs.pause(lease.job_id)  # again: no second event
    store.jobs.resume(lease.job_id)
    claimed = store.queue.claim("two", [JobStatus.QUEUED, JobStatus.RUNNING], 30)
    assert claimed is not None
    assert claimed[0].attempt == lease.attempt + 1
    assert messages(store, lease.job_id)[-2:] == ["Fine-tuning job paused", "Fine-tuning job resumed"]


def test_a_job_that_is_not_paused_cannot_be_resumed(store: Store, make_job: MakeJob) -> None:
    with pytest.raises(InvalidRequest, match="is not paused"):
        store.jobs.resume(make_job().id)


def test_a_paused_new_job_is_validated_but_not_started(store: Store, make_job: MakeJob) -> None:
    job = make_job()
    assert store.jobs.pause(job.id).status is JobStatus.VALIDATING
    claimed = store.queue.claim("one", [JobStatus.VALIDATING], 30)
    assert claimed is not None
    store.queue.set_status(claimed[1], JobStatus.QUEUED)
    assert store.queue.claim("one", [JobStatus.QUEUED], 30) is None


def test_only_finished_states_are_final() -> None:
    assert {status for status in JobStatus if status.finished} == {
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    }
    assert set(TRANSITIONS) == set(JobStatus)
