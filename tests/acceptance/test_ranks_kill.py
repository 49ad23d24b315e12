"""A worker whose jobs are trained by two ranks, kill -9 on one of them: the job goes on and loses no step.

The same pair shows that ranks listen on loopback only, and that where they met is gone when they are.
"""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.acceptance.conftest import tiny_settings
from tests.acceptance.test_worker_kill import STEPS, start_worker, store, submit, wait_for
from tests.processes import children

from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Store

__all__ = ["start_worker", "store"]


@pytest.fixture
def settings(tmp_path: Path, base_dir: Path) -> Settings:
    return tiny_settings(tmp_path, base_dir, train_ranks=2, train_threads=2)


def addresses(ranks: list[psutil.Process]) -> set[str]:
    """Where the ranks listen and talk."""
    states = (psutil.CONN_LISTEN, psutil.CONN_ESTABLISHED)
    found = [one for rank in ranks for one in rank.net_connections("inet") if one.status in states]
    return {one.laddr.ip for one in found}


def test_a_job_survives_kill_9_of_one_of_its_ranks(
    settings: Settings, store: Store, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    job = submit(store)
    worker = start_worker()
    wait_for(store, job, lambda row: row.last_step >= 3, 120)
    ranks = children("tunesmith.train", worker.pid)
    assert addresses(ranks) == {"127.0.0.1"}
    first, second = ranks
    (first if int(first.environ()["RANK"]) else second).send_signal(signal.SIGKILL)
    done = wait_for(store, job, lambda row: row.status.finished, 180)
    assert (done.status, done.error) == (JobStatus.SUCCEEDED, None)
    assert [data["step"] for data in store.jobs.metrics(job.id)] == list(range(1, STEPS + 1))
    assert not list((settings.paths.jobs / job.id).glob("*-ranks-*"))
    said = [event.message for event in store.jobs.events(job.id, limit=100).data]
    assert sum(text.startswith("Training was interrupted: rank 1 ended without a word") for text in said) == 1
    assert sum(text.startswith("Training goes on after an interruption") for text in said) == 1
