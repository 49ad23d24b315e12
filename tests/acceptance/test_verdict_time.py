"""A real job in real processes: the verdict takes its share of the time, or says what it took."""

import json
import re
import shutil
import threading
import time
from pathlib import Path

import pytest
from tests.train.conftest import write_tiny_base

from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobStatus, NewFile, NewJob, Store, open_store
from tunesmith.worker.loop import run_worker

ROWS, HELD_OUT = 300, 200
NUMBERS = {"n_epochs": 1, "batch_size": 8, "learning_rate_multiplier": 1.0}
SECONDS = 300  # most of it for starting processes; 108 on a machine under heavy load


@pytest.fixture
def settings(tmp_path: Path, base_dir: Path) -> Settings:
    base = tmp_path / "base"
    base.mkdir()
    write_tiny_base(base_dir, base)
    return Settings(data_dir=tmp_path / "data", bases={"tiny": str(base)}, serve_weights="float32", train_idle=False)


def rows(first: int, count: int) -> bytes:
    texts = ((f"Is {number} even?", "yes" if number % 2 == 0 else "no") for number in range(first, first + count))
    lines = ([{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in texts)
    return b"".join(json.dumps({"messages": line}).encode() + b"\n" for line in lines)


def uploaded(store: Store, content: bytes) -> str:
    return store.files.create(store.blobs.write([content]), NewFile(purpose="fine-tune", filename="rows.jsonl")).id


def test_the_verdict_takes_its_share_of_the_time_or_says_what_it_took(settings: Settings) -> None:
    store, stop = open_store(settings), threading.Event()
    job = store.jobs.create(
        NewJob(
            model="tiny",
            base_model="tiny",
            training_file=uploaded(store, rows(0, ROWS)),
            validation_file=uploaded(store, rows(1000, HELD_OUT)),
            organization="acme",
            seed=1,
            hyperparameters={**NUMBERS},
            method={"type": "supervised", "supervised": {"hyperparameters": {**NUMBERS}}},
            suffix="even",
        )
    )
    worker = threading.Thread(target=run_worker, args=(store, settings, stop))
    worker.start()
    deadline = time.monotonic() + SECONDS
    while not (done := store.jobs.get(job.id) or pytest.fail("the job is gone")).status.finished:
        assert time.monotonic() < deadline, [event.message for event in store.jobs.events(job.id, limit=100).data]
        time.sleep(0.2)
    told = [event.message for event in store.jobs.events(job.id, limit=1000).data]
    stop.set()
    worker.join(30)
    assert done.status is JobStatus.SUCCEEDED, told
    [verdict] = [one for one in told if one.startswith("Verdict: ")]
    found = json.loads(store.blobs.path(done.result_files[1]).read_text("utf-8"))
    files = JobFiles(settings.paths.jobs, job.id)
    trained = files.events(done.attempt).stat().st_mtime - files.spec(done.attempt).stat().st_mtime
    ended = files.evaluation_events(done.attempt).stat().st_mtime
    took = ended - files.evaluation_spec(done.attempt).stat().st_mtime
    within = took <= 0.15 * (trained + took)
    assert within or f"{found['rows']} of {HELD_OUT} rows of the validation file, drawn at random" in verdict
    said = re.search(r"the evaluation took [\d.]+ % of the job's time", verdict)
    assert within or said, (trained, took, verdict)
    assert found["rows"] >= 24
    store.close()
    shutil.rmtree(settings.data_dir)
