"""A lease whose renewal waits for another writer is not taken by a worker that waits for the same one."""

import sqlite3
import threading
import time

import pytest
from tests.worker.conftest import Submit

from tunesmith.settings import Settings
from tunesmith.store import JobRow, JobStatus, Store, open_store
from tunesmith.worker.heartbeat import Heartbeat

LEASE = 1.0
CLAIMERS = 4


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_a_writer_that_holds_the_database_for_longer_than_the_lease_costs_no_job(
    store: Store, store_settings: Settings, submit: Submit
) -> None:
    job = submit()
    others = [open_store(store_settings) for _ in range(CLAIMERS)]  # as other processes: each waits for SQLite's lock
    claimed = store.queue.claim("holder", [JobStatus.VALIDATING], LEASE)
    assert claimed is not None
    ended = threading.Event()
    taken: list[JobRow] = []

    def claim(other: Store) -> None:
        while not ended.is_set():
            if found := other.queue.claim("other", [JobStatus.VALIDATING], LEASE):
                taken.append(found[0])
            ended.wait(0.02)

    threads = [threading.Thread(target=claim, args=(other,), daemon=True) for other in others]
    with Heartbeat(store.queue, claimed[1], LEASE) as heartbeat, sqlite3.connect(store_settings.paths.database) as one:
        for thread in threads:
            thread.start()
        one.isolation_level = None
        one.execute("BEGIN IMMEDIATE")
        time.sleep(2.5 * LEASE)
        one.execute("COMMIT")
        time.sleep(2 * LEASE)
        ended.set()
        for thread in threads:
            thread.join()
    one.close()
    heartbeat.demand()
    row = store.jobs.get(job.id)
    assert (taken, row and row.attempt, row and row.worker) == ([], 1, "holder")
    for other in others:
        other.close()


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_the_job_of_a_dead_worker_is_taken_after_its_lease(store: Store, submit: Submit) -> None:
    submit()
    assert store.queue.claim("dead", [JobStatus.VALIDATING], 0.2) is not None
    time.sleep(0.3)
    began = time.monotonic()
    claimed = store.queue.claim("other", [JobStatus.VALIDATING], LEASE)
    assert claimed is not None
    assert (claimed[0].attempt, claimed[0].worker) == (2, "other")
    assert time.monotonic() - began < 5
