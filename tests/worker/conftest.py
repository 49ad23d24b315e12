"""A worker in a thread, with a scripted trainer in real child processes."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.child import ChildLauncher
from tunesmith.settings import Settings
from tunesmith.store import JobRow, NewFile, NewJob, Store
from tunesmith.worker.loop import run_worker

ROW = {"messages": [{"role": "user", "content": "How is the weather?"}, {"role": "assistant", "content": "Fine."}]}
GOOD = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
NOTICE = "LoRA of rank 16"  # of the scripted trainer
AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}

Submit = Callable[..., JobRow]
WaitFor = Callable[..., JobRow]
Begin = Callable[..., JobRow]
Script = Callable[..., None]
# What does not touch SQL in a way of its own runs once; the rest runs over PostgreSQL too.
ONCE = pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Says what the trainers that are started from now on do."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)

    def set_script(**values: object) -> None:
        monkeypatch.setenv("SCRIPTED_TRAINER", json.dumps(values))

    set_script()
    return set_script


@pytest.fixture
def submit(store: Store, base_dir: Path) -> Submit:
    """Uploads rows (ten good ones unless given) and creates a job on them."""

    def create(
        content: bytes | None = None,
        validation: bytes | None = None,
        method: str = "supervised",
        model: str = "smollm2-135m-instruct",
        options: JsonObject | None = None,
        integrations: tuple[JsonObject, ...] = (),
        numbers: JsonObject | None = None,
    ) -> JobRow:
        asked: JsonObject = {**AUTO, **(numbers or {})}
        content = content if content is not None else rows(10)
        training = upload(store, content)
        return store.jobs.create(
            NewJob(
                model=model,
                base_model="smollm2-135m-instruct",
                training_file=training,
                validation_file=None if validation is None else upload(store, validation),
                organization="acme",
                seed=1,
                hyperparameters=asked,
                method={"type": method, method: {"hyperparameters": asked}},
                suffix="bot",
                options=options or {},
                integrations=integrations,
            )
        )

    return create


class Workers:
    """Workers that end with the test."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._running: list[tuple[threading.Thread, threading.Event]] = []

    def start(self) -> None:
        stop = threading.Event()
        launcher = ChildLauncher("scripted_trainer")
        thread = threading.Thread(
            target=run_worker,
            args=(self._store, self._settings, stop),
            kwargs={"launcher": launcher, "evaluator": ChildLauncher("evaluation.scripted_evaluator")},
        )
        thread.start()
        self._running.append((thread, stop))

    def stop(self) -> None:
        for thread, stop in self._running:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
        self._running.clear()


@pytest.fixture
def workers(store: Store, store_settings: Settings, script: object) -> Iterator[Workers]:
    started = Workers(store, store_settings)
    yield started
    started.stop()


def rows(count: int) -> bytes:
    return b"".join(json.dumps(ROW).encode() + b"\n" for _ in range(count))


def upload(store: Store, content: bytes) -> str:
    return store.files.create(store.blobs.write([content]), NewFile(purpose="fine-tune", filename="rows.jsonl")).id


@pytest.fixture
def wait_for(store: Store) -> WaitFor:
    """Waits until the job fulfils the condition; fails with its events when it does not."""

    def wait(job: JobRow, condition: Callable[[JobRow], bool], seconds: float = 30) -> JobRow:
        deadline = time.monotonic() + seconds
        while True:
            row = store.jobs.get(job.id)
            assert row is not None
            if condition(row):
                return row
            if time.monotonic() > deadline:
                pytest.fail(f"{row.status} after {seconds} s: {messages(store, job)}")
            time.sleep(0.02)

    return wait


@pytest.fixture
def begin(workers: Workers, submit: Submit, wait_for: WaitFor) -> Begin:
    """Submits a job, starts a worker, and waits until the job is finished, or as far as `until` says."""

    def begin_job(
        *files: bytes | None, until: Callable[[JobRow], bool] = finished, seconds: float = 30, **job: object
    ) -> JobRow:
        submitted = submit(*files, **job)
        workers.start()
        return wait_for(submitted, until, seconds)

    return begin_job


def messages(store: Store, job: JobRow) -> list[str]:
    """Oldest first."""
    return [event.message for event in reversed(store.jobs.events(job.id, limit=1000).data)]


def finished(row: JobRow) -> bool:
    return row.status.finished


def steps(store: Store, job: JobRow) -> list[int]:
    return [int(str(data["step"])) for data in store.jobs.metrics(job.id)]
