"""Jobs that are killed, cancelled, paused, handed over, or lose their database, and go on."""

import time
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.processes import children
from tests.worker.conftest import NOTICE, ONCE, Begin, Script, Submit, WaitFor, Workers, finished, messages, steps

from tunesmith.store import JobStatus, Store


def trainers() -> list[psutil.Process]:
    return children("scripted_trainer", recursive=True)


@pytest.mark.parametrize("skip_replay", [False, True])
def test_a_killed_trainer_is_started_again_and_goes_on(
    store: Store, begin: Begin, script: Script, skip_replay: bool
) -> None:
    script(kill_at=4, skip_replay=skip_replay)
    done = begin()
    assert done.status is JobStatus.SUCCEEDED
    assert steps(store, done) == [1, 2, 3, 4, 5, 6]
    said = messages(store, done)
    assert said.count(NOTICE) == 1
    assert said.count("Fine-tuning job started") == 1
    assert any("killed by signal 9 from outside after step 3" in text for text in said)
    assert "Training goes on after an interruption (attempt 3)" in said


def test_a_cancelled_job_loses_its_trainer_within_seconds(
    store: Store, begin: Begin, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(steps=1000, seconds=0.05)
    job = begin(until=lambda row: row.last_step >= 4)
    assert len(trainers()) == 1
    store.jobs.cancel(job.id)
    began = time.monotonic()
    while trainers():
        assert time.monotonic() - began < 3
        time.sleep(0.02)
    script()
    wait_for(other := submit(), finished)  # the worker is free again
    assert messages(store, other)[-1] == "The job has successfully completed"
    assert messages(store, job)[-1] == "Fine tuning process stopping due to job cancellation"
    assert store.jobs.get(job.id).status is JobStatus.CANCELLED  # type: ignore[union-attr]
    (kept, *_) = store.jobs.checkpoints(job.id).data
    assert store.models.resolve(kept.fine_tuned_model_checkpoint) is not None


def test_a_paused_job_goes_on_where_it_stopped(store: Store, begin: Begin, wait_for: WaitFor, script: Script) -> None:
    script(steps=30, seconds=0.05)
    job = begin(until=lambda row: row.last_step >= 3)
    store.jobs.pause(job.id)
    while trainers():
        time.sleep(0.02)
    paused = store.jobs.get(job.id)
    assert paused is not None
    time.sleep(0.3)
    assert store.jobs.get(job.id) == paused
    assert paused.status is JobStatus.QUEUED
    store.jobs.resume(job.id)
    done = wait_for(job, finished)
    assert done.status is JobStatus.SUCCEEDED
    assert steps(store, job) == list(range(1, 31))
    assert messages(store, job).count("Fine-tuning job started") == 1


@ONCE
def test_a_worker_that_is_stopped_hands_its_job_to_the_next(
    store: Store, workers: Workers, begin: Begin, wait_for: WaitFor, script: Script
) -> None:
    script(steps=30, seconds=0.05)
    job = begin(until=lambda row: row.last_step >= 3)
    workers.stop()
    assert trainers() == []
    left = store.jobs.get(job.id)
    assert left is not None
    assert (left.status, left.worker) == (JobStatus.RUNNING, None)
    workers.start()
    assert wait_for(job, finished).status is JobStatus.SUCCEEDED
    assert steps(store, job) == list(range(1, 31))


@pytest.mark.parametrize("store_settings", ["postgresql"], indirect=True)
def test_a_database_that_drops_its_connections_loses_nothing(
    store: Store, begin: Begin, wait_for: WaitFor, script: Script, postgres_socket: Path
) -> None:
    script(steps=40, seconds=0.05)
    job = begin(until=lambda row: row.last_step >= 2)
    with psycopg.connect(host=str(postgres_socket), user="postgres", dbname="postgres", autocommit=True) as admin:
        for _ in range(8):
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            time.sleep(0.15)
    done = wait_for(job, finished)
    assert done.status is JobStatus.SUCCEEDED
    assert done.attempt == 2  # checked, then trained in one go
    assert steps(store, job) == list(range(1, 41))
