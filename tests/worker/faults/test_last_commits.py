"""Workers killed at their last commit and deletions: nothing that is needed is lost, and nothing else is left."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.worker.conftest import Script, Submit

from tunesmith.settings import Settings
from tunesmith.store import JobRow, JobStatus, Store, open_store

WORKER = """
import json, os, signal, sys, threading
from tunesmith.launch.child import ChildLauncher
from tunesmith.settings import Settings
from tunesmith.store import open_store
from tunesmith.store.queue import leases
from tunesmith.worker.loop import run_worker

kill = lambda *args, **more: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "commit":
    leases.register_model = kill
elif sys.argv[2] != "never":
    unlinks, unlink, register = [], os.unlink, leases.register_model
    def counting(path, **more):
        unlinks.append(path)
        kill() if unlinks[0] == "armed" and len(unlinks) > int(sys.argv[2]) else unlink(path, **more)
    def arm(*args, **more):
        unlinks[:] = ["armed"]
        return register(*args, **more)
    os.unlink, leases.register_model = counting, arm
settings = Settings(**json.loads(sys.argv[1]))
store = open_store(settings)
run_worker(store, settings, threading.Event(), launcher=ChildLauncher("scripted_trainer"))
"""


def work(settings: Settings, kill: str, ended: Callable[[], bool]) -> None:
    command = [sys.executable, "-c", WORKER, settings.model_dump_json(exclude_defaults=True), kill]
    worker = subprocess.Popen(command, env=os.environ)
    deadline = time.monotonic() + 60
    while worker.poll() is None and not (kill == "never" and ended()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.kill()
    worker.wait()


def output(settings: Settings, job: JobRow) -> set[str]:
    folder = settings.paths.jobs / job.id / "output"
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# The model of the last step has its files in `adapter`.
FILES = ("progress.json", "adapter", "adapter/manifest.json", "adapter/card.json", "adapter/card.md", "checkpoints")
EXPECTED = {*FILES} | {f"checkpoints/step-0000{step}{file}" for step in (20, 30) for file in ("", "/manifest.json")}


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kill", ["commit", "1", "2"])
def test_a_killed_end_leaves_all_that_is_needed_and_the_next_worker_removes_the_rest(
    store: Store, store_settings: Settings, submit: Submit, script: Script, kill: str
) -> None:
    script(steps=40, every=10)
    settings = store_settings.model_copy(update={"lease_seconds": 2.0})
    job = submit()
    work(settings, kill, lambda: False)
    assert output(settings, job) > EXPECTED

    def ended() -> bool:
        row = store.jobs.get(job.id)
        return row is not None and row.status is JobStatus.SUCCEEDED and output(settings, job) == EXPECTED

    work(settings, "never", ended)
    assert output(settings, job) == EXPECTED
    open_store(settings).close()
    partial: Path = settings.paths.blobs / ".partial"
    assert [*partial.iterdir()] == []
    assert len([path for path in settings.paths.blobs.iterdir() if path.is_file()]) == 2  # the rows and the result
