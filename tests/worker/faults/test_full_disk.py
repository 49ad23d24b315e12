"""Jobs on a full disk wait for room and say so."""

import re

import pytest
from tests.small_disk import SmallDisk
from tests.small_disk import small_disk as small_disk
from tests.worker.conftest import ONCE, Submit, WaitFor, Workers, finished, messages

from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Store
from tunesmith.worker import loop

FULL = (
    r"The server's disk is full: [\d,]+ bytes are free, and a job needs at least 2,097,152 to start\."
    " It waits in the queue until there is room"
)


@pytest.fixture
def disk(store: Store, store_settings: Settings, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    """The jobs' files are on it, the database is not."""
    monkeypatch.setattr(loop, "SHORTAGE_PAUSE", 0.1)
    monkeypatch.setattr(loop, "LONGEST_SHORTAGE_PAUSE", 0.1)
    store_settings.paths.jobs.rmdir()
    store_settings.paths.jobs.symlink_to(small_disk.folder)
    return small_disk


@ONCE
def test_queued_jobs_stay_queued_while_there_is_no_room(
    store: Store,
    disk: SmallDisk,
    workers: Workers,
    submit: Submit,
    wait_for: WaitFor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "SHORTAGE_SECONDS", 0.5)  # not for a job that has not started
    disk.fill()
    jobs = [submit() for _ in range(5)]
    workers.start()
    for job in jobs:
        wait_for(job, lambda row: row.status is JobStatus.QUEUED)
    wait_for(jobs[0], lambda row: row.attempt >= 12)
    waiting = [store.jobs.get(job.id) for job in jobs]
    assert [row and row.status for row in waiting] == [JobStatus.QUEUED] * 5
    said = [text for text in messages(store, jobs[0]) if "disk" in text]
    assert len(said) == 1
    assert re.fullmatch(FULL, said[0])
    disk.clear()
    assert [wait_for(job, finished).status for job in jobs] == [JobStatus.SUCCEEDED] * 5
