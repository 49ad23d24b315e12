"""Makes fixtures/earlier-data.tar.gz: a data directory of an earlier version, with a job killed in mid-training.

Run it with that version's code, in the environment of this checkout:

    git worktree add /tmp/earlier b517ac3
    PYTHONPATH=/tmp/earlier/src .venv/bin/python tests/acceptance/make_earlier_data.py

The archive has `data/`, the data directory, and `expected.json`, what `test_data_of_before.py` compares with. Two jobs
have the same rows, seed and hyperparameters, and so the same result: one has finished, the other was killed. Places on
the machine that made it are replaced by `@DATA@` (the data directory) and `@BASE@` (the base model).
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import psutil
import torch
from earlier_data import ARCHIVE, UPLOADED, processor  # beside this script

from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobRow, NewJob, NewUpload, Store, open_store

BASE = "smollm2-135m-instruct"
NUMBERS = {"n_epochs": 2, "batch_size": 2, "learning_rate_multiplier": 2.0}
SMALL = {"lora_rank": 1, "lora_targets": ["q_proj"]}  # 35,000 values
WORDS = ("sun", "rain", "snow", "wind", "fog", "hail", "frost", "storm", "cloud", "heat")
KILLED_AFTER = 6  # of 10 steps: the checkpoint of the first epoch is there
YEARS = 100 * 365 * 86_400


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tunesmith-earlier-") as scratch:
        root = Path(scratch)
        settings = Settings(
            data_dir=root / "data", train_threads=1, checkpoint_seconds=0.01, poll_seconds=0.1, train_idle=False
        )
        expected = leave_data(settings) | {"processor": processor(), "torch": torch.__version__}
        (root / "expected.json").write_text(json.dumps(expected, indent=1))
        pack(root)


def leave_data(settings: Settings) -> dict[str, object]:
    """Fills the data directory; what the test must know of it."""
    store = open_store(settings)
    store.keys.ensure_first(settings.paths.api_key_file)
    whole = NewUpload("dew.jsonl", "fine-tune", sum(map(len, UPLOADED)), "text/jsonl")
    upload = store.uploads.create(whole, seconds=YEARS)
    parts = [store.uploads.add_part(upload.id, [data], room=1000).id for data in UPLOADED]
    finished, killed = submit(store, "finished"), submit(store, "killed")
    work_until(settings, lambda: row(store, killed).last_step >= KILLED_AFTER)
    last = row(store, killed)
    store.close()
    forget_places(settings, killed)
    adapter = JobFiles(settings.paths.jobs, finished.id).output / "adapter" / "adapter_model.safetensors"
    return {
        "finished": finished.id,
        "killed": killed.id,
        "last_step": last.last_step,
        "attempt": last.attempt,
        "upload": upload.id,
        "parts": parts,
        "adapter_sha256": sha256(adapter.read_bytes()).hexdigest(),
    }


def pack(root: Path) -> None:
    ARCHIVE.parent.mkdir(exist_ok=True)
    with tarfile.open(ARCHIVE, "w:gz") as archive:
        for name in ("data", "expected.json"):
            archive.add(root / name, name, filter=anonymous)
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes", file=sys.stderr)


def submit(store: Store, suffix: str) -> JobRow:
    rows = [
        {"messages": [{"role": "user", "content": f"{word}?"}, {"role": "assistant", "content": f"Yes, {word}."}]}
        for word in WORDS
    ]
    blob = store.blobs.write([json.dumps(row).encode() + b"\n" for row in rows])
    return store.jobs.create(
        NewJob(
            model=BASE,
            base_model=BASE,
            training_file=store.files.create(blob, purpose="fine-tune", filename="weather.jsonl").id,
            organization="personal",
            seed=7,
            hyperparameters=dict(NUMBERS),
            method={"type": "supervised", "supervised": {"hyperparameters": dict(NUMBERS)}},
            suffix=suffix,
            options=dict(SMALL),
        )
    )


def row(store: Store, job: JobRow) -> JobRow:
    found = store.jobs.get(job.id)
    assert found is not None
    return found


def work_until(settings: Settings, condition: Callable[[], bool]) -> None:
    """A worker, which is killed with its trainer once the condition holds."""
    values = settings.model_dump(exclude_defaults=True, exclude={"train_idle"}) | {"train_idle": "false"}
    environment = os.environ | {f"TUNESMITH_{name.upper()}": str(value) for name, value in values.items()}
    worker = subprocess.Popen([sys.executable, "-m", "tunesmith.worker"], env=environment)
    while not condition():
        assert worker.poll() is None, "the worker ended"
        time.sleep(0.005)
    processes = [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)


def forget_places(settings: Settings, job: JobRow) -> None:
    """What names this machine: its paths in specs, events and journals, its name in the worker's."""
    data = settings.paths.root
    base_dir = json.loads(next((settings.paths.jobs / job.id).glob("attempt-*.spec.json")).read_text())["base_dir"]
    for path in data.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".log"):
            text = path.read_text("utf-8").replace(str(data), "@DATA@").replace(base_dir, "@BASE@")
            path.write_text(text, "utf-8")
    with sqlite3.connect(settings.paths.database) as database:
        database.execute("UPDATE jobs SET worker = 'somewhere:1:abcdef:train' WHERE worker IS NOT NULL")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.execute("VACUUM")
    database.close()
    for path in data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(data).encode() not in content, path
            assert str(Path.home()).encode() not in content, path


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
