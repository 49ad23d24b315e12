"""The worker side of a job, played through the store: what pages show of it is real."""

from pathlib import Path

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import JobOutcome, JobRow, JobStatus, Lease, NewCheckpoint, NewEvent, NewFile, NewJob, Store

AUTO: JsonObject = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
NUMBERS: JsonObject = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 2.0}


def new_job(store: Store, **fields: object) -> JobRow:
    values: dict[str, object] = {
        "model": "smollm2-135m-instruct",
        "base_model": "smollm2-135m-instruct",
        "training_file": new_file(store, "train.jsonl"),
        "organization": "acme",
        "seed": 42,
        "hyperparameters": dict(AUTO),
        "method": {"type": "supervised", "supervised": {"hyperparameters": dict(AUTO)}},
    }
    return store.jobs.create(NewJob(**(values | fields)))  # type: ignore[arg-type]


def new_file(store: Store, name: str) -> str:
    blob = store.blobs.write([b'{"messages": []}\n'])
    return store.files.create(blob, NewFile("fine-tune", name, status="processed")).id


def running_job(store: Store, **fields: object) -> Lease:
    """A job that trains, under worker "tests"."""
    job = new_job(store, **fields)
    store.queue.set_status(_claimed(store, job, JobStatus.VALIDATING), JobStatus.QUEUED, hyperparameters=NUMBERS)
    lease = _claimed(store, job, JobStatus.QUEUED)
    store.queue.set_status(lease, JobStatus.RUNNING, [NewEvent("Fine-tuning job started", data=None)])
    return lease


def _claimed(store: Store, job: JobRow, status: JobStatus) -> Lease:
    found = store.queue.claim("tests", [status], 600)
    assert found is not None
    assert found[0].id == job.id
    return found[1]


def step(number: int, total: int, loss: float, **more: float) -> NewEvent:
    data: JsonObject = {"step": number, "total_steps": total, "train_loss": loss, "train_mean_token_accuracy": 0.5}
    return NewEvent(f"Step {number}/{total}", type="metrics", data={**data, **more}, step=number)


def train(store: Store, lease: Lease, first: int, last: int, total: int, *, ends: int | None = None) -> None:
    """Reports steps; the loss of step n is 2 - n / total."""
    made = [step(n, total, 2 - n / total) for n in range(first, last + 1)]
    store.queue.append(lease, made, total_steps=total, estimated_finish=ends)


def checkpoint(store: Store, lease: Lease, folder: Path, number: int) -> Path:
    adapter = folder / lease.job_id / "checkpoints" / f"step-{number:06}"
    adapter.mkdir(parents=True)
    store.queue.add_checkpoint(lease, NewCheckpoint(number, adapter, {"train_loss": 0.5, "full_valid_loss": 0.75}))
    return adapter


def finish(store: Store, lease: Lease, adapter: Path, verdict: JsonObject | None = None) -> JobRow:
    result = store.blobs.write([b"step,train_loss\n1,1.5\n"])
    end = [NewEvent("The job has successfully completed")]
    outcome = JobOutcome(adapter, trained_tokens=6810, result=result, events=end, verdict=verdict)
    return store.queue.finish(lease, outcome)
