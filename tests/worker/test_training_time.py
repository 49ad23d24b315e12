"""A job trains no longer than the server allows, over all its attempts."""

import os
import time
from pathlib import Path

import pytest
from tests.worker.conftest import ONCE, Begin, Script

from tunesmith.errors import TrainerError
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobStatus, Store
from tunesmith.worker.duration import TrainingTime


@ONCE
def test_a_job_that_trains_too_long_fails_and_keeps_its_checkpoints(
    store: Store, store_settings: Settings, script: Script, begin: Begin
) -> None:
    object.__setattr__(store_settings, "limit_job_seconds", 2.0)
    script(steps=400, seconds=0.05, every=5)
    done = begin()
    assert done.status is JobStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "training_time_limit"
    assert "The job trained for 2 seconds, the longest that this server allows" in str(done.error["message"])
    assert store.jobs.checkpoints(done.id).data


def test_earlier_attempts_count_and_pauses_do_not(tmp_path: Path) -> None:
    files = JobFiles(tmp_path, "ftjob-1")
    files.directory.mkdir()
    now = time.time()
    for attempt, begun, last in ((1, now - 5000, now - 4940), (2, now - 100, now - 70)):
        for path, moment in ((files.spec(attempt), begun), (files.events(attempt), last)):
            path.touch()
            os.utime(path, (moment, moment))
    assert TrainingTime.of(files, 4, 7200).earlier == pytest.approx(90, abs=0.1)
    TrainingTime.of(files, 4, 100).demand()
    with pytest.raises(TrainerError, match=r"trained for 80 seconds, .*checkpoints are kept"):
        TrainingTime.of(files, 4, 80).demand()
    with pytest.raises(TrainerError, match="trained for 2 hours"):
        TrainingTime(7200, 7201).demand()
    TrainingTime(0, 1e9).demand()
