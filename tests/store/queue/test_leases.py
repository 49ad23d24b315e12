"""Claims, fences, and the transactions of a worker."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.errors import ServerFault
from tunesmith.settings import Settings
from tunesmith.store import JobOutcome, JobRow, JobStatus, Lease, LeaseLost, NewCheckpoint, NewEvent, Store
from tunesmith.store.queue import leases as queue_module

MakeJob = Callable[..., JobRow]
Running = Callable[..., Lease]
WAITING = [JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.RUNNING]


def step(number: int) -> NewEvent:
    return NewEvent(f"Step {number}", type="metrics", data={"step": number}, step=number)


def texts(store: Store, job_id: str) -> list[str]:
    return [event.message for event in reversed(store.jobs.events(job_id, limit=1000).data)]


def outcome(store: Store, settings: Settings, lease: Lease) -> JobOutcome:
    return JobOutcome(
        adapter_dir=settings.paths.jobs / lease.job_id / "output" / "adapter",
        trained_tokens=6810,
        result=store.blobs.write([b"step\n"]),
        events=[NewEvent("The job has successfully completed")],
    )


def test_the_oldest_job_is_claimed_first(store: Store, make_job: MakeJob) -> None:
    made = [make_job().id for _ in range(3)]
    claims = [store.queue.claim("one", WAITING, 30) for _ in range(4)]
    assert [claim and claim[0].id for claim in claims] == [*made, None]


def test_a_claim_is_a_lease_with_the_next_attempt(store: Store, make_job: MakeJob) -> None:
    job = make_job()
    claimed = store.queue.claim("one", WAITING, 30)
    assert claimed is not None
    assert claimed[1] == Lease(job.id, "one", 1)
    assert (claimed[0].worker, claimed[0].attempt) == ("one", 1)


def test_workers_at_once_never_get_the_same_job(store: Store, make_job: MakeJob) -> None:
    made = {make_job().id for _ in range(20)}
    taken: list[str] = []

    def work(name: str) -> None:
        while (claimed := store.queue.claim(name, WAITING, 30)) is not None:
            taken.append(claimed[0].id)
            store.queue.set_status(claimed[1], JobStatus.FAILED)

    for _ in range(5):  # PostgreSQL may answer None to one that looked while others held the last rows
        threads = [threading.Thread(target=work, args=(str(number),)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken) == sorted(made)


def test_a_silent_workers_job_is_taken_and_its_writes_refused(
    store: Store, running: Running, store_settings: Settings
) -> None:
    old = running()
    assert store.queue.claim("two", WAITING, 30) is None
    store.queue.renew(old, -1)  # as if the lease had run out
    claimed = store.queue.claim("two", WAITING, 30)
    assert claimed is not None
    assert claimed[1] == Lease(old.job_id, "two", old.attempt + 1)
    before = store.jobs.get(old.job_id)
    checkpoint = NewCheckpoint(1, store_settings.paths.jobs / "x", {})
    writes: list[Callable[[], object]] = [
        lambda: store.queue.renew(old, 30),
        lambda: store.queue.append(old, [step(1)]),
        lambda: store.queue.add_checkpoint(old, checkpoint),
        lambda: store.queue.set_status(old, JobStatus.FAILED),
        lambda: store.queue.finish(old, outcome(store, store_settings, old)),
        lambda: store.queue.fail(old, code="x", message="x"),
        lambda: store.queue.check_held(old),
    ]
    for write in writes:
        with pytest.raises(LeaseLost) as lost:
            write()
        assert lost.value.code == "taken"
    store.queue.release(old)  # gives back nothing
    assert store.jobs.get(old.job_id) == before
    assert store.models.all() == []
    store.queue.check_held(claimed[1])


def test_a_late_worker_that_nobody_replaced_goes_on(store: Store, running: Running) -> None:
    lease = running()
    store.queue.renew(lease, -1)
    store.queue.append(lease, [step(1)])
    store.queue.renew(lease, 30)
    assert store.queue.claim("two", WAITING, 30) is None


def test_a_released_job_is_claimed_at_once(store: Store, running: Running) -> None:
    lease = running()
    store.queue.release(lease)
    claimed = store.queue.claim("two", WAITING, 30)
    assert claimed is not None
    assert claimed[0].status is JobStatus.RUNNING


def test_a_step_is_reported_once(store: Store, running: Running) -> None:
    lease = running()
    store.queue.append(lease, [step(1), step(2), NewEvent("note")], total_steps=3, estimated_finish=99)
    store.queue.append(lease, [step(1), step(2), NewEvent("note"), step(3)])
    assert texts(store, lease.job_id)[1:] == ["Step 1", "Step 2", "note", "note", "Step 3"]
    job = store.jobs.get(lease.job_id)
    assert job is not None
    assert (job.last_step, job.total_steps, job.estimated_finish) == (3, 3, 99)
    assert store.jobs.metrics(lease.job_id) == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_three_checkpoints_are_kept_and_the_last_bears_the_models_name(
    store: Store, running: Running, store_settings: Settings
) -> None:
    lease = running(suffix="bot")
    store.queue.append(lease, [], total_steps=50)
    for number in (10, 20, 30, 40, 50, 50, 10):
        store.queue.add_checkpoint(
            lease, NewCheckpoint(number, store_settings.paths.jobs / str(number), {"step": number})
        )
    kept = store.jobs.checkpoints(lease.job_id)
    job = store.jobs.get(lease.job_id)
    assert job is not None
    assert [row.step_number for row in kept.data] == [50, 40, 30]
    assert kept.data[0].fine_tuned_model_checkpoint == job.planned_model
    assert kept.data[1].fine_tuned_model_checkpoint.endswith(":ckpt-step-40")
    assert {row.name for row in store.models.all()} == {row.fine_tuned_model_checkpoint for row in kept.data}
    page = store.jobs.checkpoints(lease.job_id, limit=1, after=kept.data[0].id)
    assert ([row.step_number for row in page.data], page.has_more) == ([40], True)


def test_finishing_writes_everything_at_once(store: Store, running: Running, store_settings: Settings) -> None:
    lease = running()
    result = outcome(store, store_settings, lease)
    job = store.queue.finish(lease, result)
    assert job == store.jobs.get(lease.job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert job.finished_at is not None
    assert job.trained_tokens == 6810
    assert job.fine_tuned_model == job.planned_model
    assert result.result is not None
    assert job.result_files == (result.result.id,)
    file = store.files.get(result.result.id)
    assert file is not None
    assert (file.purpose, file.filename, file.status) == ("fine-tune-results", "step_metrics.csv", "processed")
    resolved = store.models.resolve(job.planned_model)
    assert resolved is not None
    assert (resolved.base_model, resolved.adapter_dir, resolved.owned_by) == ("base", result.adapter_dir, "acme")
    assert texts(store, job.id)[-1] == "The job has successfully completed"


def test_a_finish_that_breaks_leaves_nothing(
    store: Store, running: Running, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = running()
    before = store.jobs.get(lease.job_id)

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(queue_module, "insert_events", full)  # the last write before the status
    with pytest.raises(OSError, match="disk full"):
        store.queue.finish(lease, outcome(store, store_settings, lease))
    assert store.jobs.get(lease.job_id) == before
    assert store.models.all() == []
    assert store.files.page().data == ()


def test_a_failed_job_says_why_in_error_and_event(store: Store, running: Running) -> None:
    job = store.queue.fail(running(), code="invalid_n_examples", message="7 examples", param="training_file")
    assert job.status is JobStatus.FAILED
    assert job.error == {"code": "invalid_n_examples", "param": "training_file", "message": "7 examples"}
    assert job.finished_at is None
    event = store.jobs.events(job.id).data[0]
    assert (event.level, event.message) == ("error", "7 examples")


def test_an_impossible_step_of_the_state_machine_is_refused(store: Store, make_job: MakeJob) -> None:
    make_job()
    claimed = store.queue.claim("one", WAITING, 30)
    assert claimed is not None
    with pytest.raises(ServerFault, match="cannot go from validating_files to running"):
        store.queue.set_status(claimed[1], JobStatus.RUNNING)


def test_validated_numbers_stand_in_both_places(store: Store, make_job: MakeJob) -> None:
    make_job()
    claimed = store.queue.claim("one", WAITING, 30)
    assert claimed is not None
    numbers = {"n_epochs": 10, "batch_size": 1, "learning_rate_multiplier": 2.0}
    job = store.queue.set_status(claimed[1], JobStatus.QUEUED, hyperparameters=numbers)  # type: ignore[arg-type]
    assert job.hyperparameters == numbers
    assert job.method == {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    assert (job.worker, job.lease_until) == (None, None)


def test_adapters_move_with_the_data_directory(store: Store, running: Running, store_settings: Settings) -> None:
    lease = running()
    job = store.queue.finish(lease, outcome(store, store_settings, lease))
    with store.database.read() as connection:
        adapter = connection.exec_driver_sql("SELECT adapter FROM models").scalar()
    assert adapter == str(Path("jobs") / job.id / "output" / "adapter")
