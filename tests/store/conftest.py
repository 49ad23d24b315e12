"""A job and its lease, as most store tests need them."""

from collections.abc import Callable

import pytest

from tunesmith.store import JobRow, JobStatus, Lease, NewJob, Store

HYPERPARAMETERS = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}


@pytest.fixture
def make_job(store: Store) -> Callable[..., JobRow]:
    def make(**changes: object) -> JobRow:
        values = {
            "model": "base",
            "base_model": "base",
            "training_file": "file-" + "0" * 24,
            "organization": "acme",
            "seed": 1,
            "hyperparameters": dict(HYPERPARAMETERS),
            "method": {"type": "supervised", "supervised": {"hyperparameters": dict(HYPERPARAMETERS)}},
        }
        return store.jobs.create(NewJob(**(values | changes)))  # type: ignore[arg-type]

    return make


@pytest.fixture
def running(store: Store, make_job: Callable[..., JobRow]) -> Callable[..., Lease]:
    """A job that has reached `running` under worker "one"."""

    def start(**changes: object) -> Lease:
        job = make_job(**changes)
        claimed = store.queue.claim("one", [JobStatus.VALIDATING], 30)
        assert claimed is not None
        assert claimed[0].id == job.id
        store.queue.set_status(claimed[1], JobStatus.QUEUED)
        claimed = store.queue.claim("one", [JobStatus.QUEUED], 30)
        assert claimed is not None
        store.queue.set_status(claimed[1], JobStatus.RUNNING)
        return claimed[1]

    return start
