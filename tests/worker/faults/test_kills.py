"""Worker processes killed with -9 at random moments: no step is lost or reported twice, and the job ends."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from tests.samples import WHOLE
from tests.worker.conftest import Script, Submit, messages

from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Store

STEPS = 40
KILLS = 5 if WHOLE else 3
WORKER = """
import json, sys, threading
from tunesmith.launch.child import ChildLauncher
from tunesmith.settings import Settings
from tunesmith.store import open_store
from tunesmith.worker.loop import run_worker
settings = Settings(**json.loads(sys.argv[1]))
run_worker(open_store(settings), settings, threading.Event(), launcher=ChildLauncher("scripted_trainer"))
"""


@pytest.fixture
def start(store_settings: Settings) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    settings = store_settings.model_copy(update={"lease_seconds": 1.0})
    started: list[subprocess.Popen[bytes]] = []

    def start_one() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WORKER, settings.model_dump_json()]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def test_kills_at_random_moments_lose_and_repeat_nothing(
    store: Store,
    submit: Submit,
    script: Script,
    start: Callable[[], subprocess.Popen[bytes]],
) -> None:
    chance = random.Random(1)
    script(steps=STEPS, seconds=0.05, every=10)
    job = submit()
    kills = 0
    worker = start()
    deadline = time.monotonic() + 90
    while not (row := store.jobs.get(job.id)).status.finished:  # type: ignore[union-attr]
        assert time.monotonic() < deadline, messages(store, job)
        time.sleep(chance.uniform(0.1, 1.5) + (0.5 if row.attempt < 2 else 0))  # type: ignore[union-attr]
        if kills < KILLS or worker.poll() is not None:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            kills += 1
            worker = start()
    assert row.status is JobStatus.SUCCEEDED, (row.error, messages(store, job))  # type: ignore[union-attr]
    assert [data["step"] for data in store.jobs.metrics(job.id)] == list(range(1, STEPS + 1))
    assert [row.step_number for row in store.jobs.checkpoints(job.id).data] == [40, 30, 20]
    said = messages(store, job)
    for once in ("Files validated, moving job to queued state", "Fine-tuning job started", "LoRA of rank 16"):
        assert said.count(once) == 1
    assert said[-1] == "The job has successfully completed"
