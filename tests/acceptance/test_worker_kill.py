"""Real processes, the real trainer, kill -9: the job goes on and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from tests.acceptance.conftest import environment_of, tiny_settings
from tests.processes import children

from tunesmith.models.adapters import TENSORS_FILE
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobRow, JobStatus, NewFile, NewJob, Store, open_store
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.start import start

STEPS = 40  # 10 rows, batch size 2, 8 epochs
NUMBERS = {"n_epochs": 8, "batch_size": 2, "learning_rate_multiplier": 2.0}
ANSWER = "It was so yesterday, and it will be so tomorrow. " * 8  # so that a step takes a while, to be killed in
QUESTIONS = ("sun", "rain", "snow", "wind", "fog", "hail", "frost", "storm", "cloud", "heat")


@pytest.fixture
def settings(tmp_path: Path, base_dir: Path) -> Settings:
    return tiny_settings(tmp_path, base_dir, lease_seconds=2)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(settings)
    yield opened
    opened.close()


@pytest.fixture
def start_worker(settings: Settings) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen([sys.executable, "-m", "tunesmith.worker"], env=os.environ | environment_of(settings))
        )
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def submit(store: Store) -> JobRow:
    rows = [
        {"messages": [{"role": "user", "content": f"{word}?"}, {"role": "assistant", "content": f"{word}! {ANSWER}"}]}
        for word in QUESTIONS
    ]
    blob = store.blobs.write([json.dumps(row).encode() + b"\n" for row in rows])
    return store.jobs.create(
        NewJob(
            model="tiny",
            base_model="tiny",
            training_file=store.files.create(blob, NewFile(purpose="fine-tune", filename="weather.jsonl")).id,
            organization="acme",
            seed=7,
            hyperparameters=dict(NUMBERS),
            method={"type": "supervised", "supervised": {"hyperparameters": dict(NUMBERS)}},
        )
    )


def wait_for(store: Store, job: JobRow, condition: Callable[[JobRow], bool], seconds: float) -> JobRow:
    deadline = time.monotonic() + seconds
    while True:
        row = store.jobs.get(job.id)
        assert row is not None
        if condition(row):
            return row
        assert time.monotonic() < deadline, [event.message for event in store.jobs.events(job.id, limit=100).data]
        time.sleep(0.05)


def only_trainer(worker: subprocess.Popen[bytes]) -> psutil.Process:
    (trainer,) = children("tunesmith.train", worker.pid)
    return trainer


def test_a_job_survives_kill_9_of_worker_and_trainer(
    store: Store, settings: Settings, start_worker: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    job = submit(store)
    first = start_worker()
    wait_for(store, job, lambda row: row.last_step >= 3, 120)
    orphan = only_trainer(first)
    first.send_signal(signal.SIGKILL)
    first.wait()

    second = start_worker()
    psutil.wait_procs([orphan], timeout=15)  # it ends by itself: its worker is gone
    assert not orphan.is_running()
    before = wait_for(store, job, lambda row: row.worker is not None and row.attempt >= 3, 60)
    if not before.status.finished:
        wait_for(store, job, lambda row: row.last_step >= min(before.last_step + 2, STEPS - 1), 120)
        only_trainer(second).send_signal(signal.SIGKILL)
    done = wait_for(store, job, lambda row: row.status.finished, 120)

    assert (done.status, done.error) == (JobStatus.SUCCEEDED, None)
    assert [data["step"] for data in store.jobs.metrics(job.id)] == list(range(1, STEPS + 1))
    said = [event.message for event in reversed(store.jobs.events(job.id, limit=100).data)]
    for once in ("Fine-tuning job started", "Files validated, moving job to queued state"):
        assert said.count(once) == 1
    assert said[-1] == "The job has successfully completed"
    assert done.fine_tuned_model is not None
    resolved = store.models.resolve(done.fine_tuned_model)
    assert resolved is not None
    assert resolved.adapter_dir is not None
    assert digest(resolved.adapter_dir) == digest(uninterrupted(settings, done, tmp_path))


def uninterrupted(settings: Settings, job: JobRow, directory: Path) -> Path:
    """The adapter of the same spec, trained in one go, in this process: another one would import for seconds."""
    start(TrainSpec.read(spec_again(settings, job, directory)), lambda event: None, Interrupt()).train()
    return directory / "output" / "adapter"


def spec_again(settings: Settings, job: JobRow, directory: Path) -> Path:
    """The spec of the job's last attempt, for a training in `directory`."""
    spec = json.loads(JobFiles(settings.paths.jobs, job.id).spec(job.attempt).read_text())
    if settings.storage is not None:  # the job's copy ends with the job, just after its last event
        store = open_store(settings)
        spec["training_file"] = str(store.files.local_copy(job.training_file))
        store.close()
    path = directory / "spec.json"
    path.write_text(json.dumps(spec | {"output_dir": str(directory / "output"), "nice": 0}))
    return path


def digest(adapter: Path) -> str:
    return sha256((adapter / TENSORS_FILE).read_bytes()).hexdigest()
