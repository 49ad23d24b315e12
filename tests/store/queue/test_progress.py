"""Jobs by state and the steps of a job from a place on, over both databases."""

from collections.abc import Callable

from tunesmith.store import ACTIVE, JobRow, JobStatus, Lease, NewEvent, Store

MakeJob = Callable[..., JobRow]
Running = Callable[..., Lease]


def step(number: int) -> NewEvent:
    return NewEvent(f"Step {number}", type="metrics", data={"step": number, "train_loss": 1 / number}, step=number)


def test_steps_are_read_from_a_place_on(store: Store, running: Running) -> None:
    lease, other = running(), running()
    store.queue.append(lease, [step(1), NewEvent("a word"), step(2)])
    store.queue.append(other, [step(1)])
    created, *found = store.progress.after(lease.job_id, 0, 100)
    assert created.metrics is None
    assert [one.metrics and one.metrics["step"] for one in found] == [1, None, 2]
    store.queue.append(lease, [step(3), step(4)])
    (new,) = store.progress.after(lease.job_id, found[-1].seq, 1)
    assert new.metrics == {"step": 3, "train_loss": 1 / 3}
    assert [one.metrics for one in store.progress.after(lease.job_id, new.seq, 9)] == [{"step": 4, "train_loss": 0.25}]
    assert store.progress.newest_step(lease.job_id) == {"step": 4, "train_loss": 0.25}
    assert store.of("others").progress.after(lease.job_id, 0, 9) == []
    assert store.of("others").progress.newest_step(lease.job_id) is None


def test_events_are_paged_without_the_steps_between_them(store: Store, running: Running) -> None:
    lease = running()
    store.queue.append(lease, [*(step(number) for number in range(1, 6)), NewEvent("first"), step(6), NewEvent("last")])
    newest = store.progress.events(lease.job_id, limit=1)
    assert ([event.message for event in newest.data], newest.has_more) == (["last"], True)
    older = store.progress.events(lease.job_id, limit=9, after=newest.data[0].id)
    assert [event.message for event in older.data] == ["first", f"Created fine-tuning job: {lease.job_id}"]
    assert not older.has_more
    mixed = store.progress.events(lease.job_id, limit=3, with_steps=True)
    assert [event.message for event in mixed.data] == ["last", "Step 6", "first"]
    assert store.of("others").progress.events(lease.job_id, limit=9).data == ()
    places = [one.seq for one in store.progress.after(lease.job_id, 0, 99) if one.metrics is None]
    assert store.progress.events_at(lease.job_id, places) == [*newest.data, *older.data]
    assert store.progress.events_at(running(project="others").job_id, places) == []
    assert store.of("others").progress.events_at(lease.job_id, places) == []


def test_jobs_are_listed_by_their_state(store: Store, make_job: MakeJob, running: Running) -> None:
    lease = running()
    waiting, paused, ended = make_job(), make_job(), make_job(project="others")
    store.jobs.pause(paused.id)
    store.jobs.cancel(ended.id)

    def listed(*states: JobStatus, paused: bool | None = None) -> list[str]:
        return [job.id for job in store.progress.jobs(states, paused=paused).data]

    assert listed(*ACTIVE) == [paused.id, waiting.id, lease.job_id]
    assert listed(JobStatus.VALIDATING, JobStatus.QUEUED, paused=False) == [waiting.id]
    assert listed(*ACTIVE, paused=True) == [paused.id]
    assert listed(JobStatus.CANCELLED) == [ended.id]
    assert store.of("default").progress.jobs((JobStatus.CANCELLED,)).data == ()
    page = store.progress.jobs(ACTIVE, limit=1)
    assert page.has_more
    assert [job.id for job in store.progress.jobs(ACTIVE, after=page.data[0].id).data] == [waiting.id, lease.job_id]


def test_the_version_tells_of_a_write_elsewhere(store: Store, running: Running) -> None:
    lease, before = running(), store.progress.version()
    assert store.progress.version() == before
    store.queue.append(lease, [step(1)])
    after = store.progress.version()
    assert (before is None and after is None) or before != after
