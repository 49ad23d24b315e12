"""Weights & Biases: metrics go out beside a job, and whatever goes wrong there, the job goes on."""

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.worker.conftest import ONCE, Submit, WaitFor, Workers, finished

import tunesmith
from tunesmith.settings import Settings
from tunesmith.store import EventRow, JobRow, JobStatus, Store

Run = Callable[..., tuple[JobRow, list[EventRow]]]

# Speaks wandb's three calls and writes down what it was told.
STAND_IN = """
import json, os
from pathlib import Path

OUT = Path(os.environ["TOLD"])

def Settings(**values):
    return values

def tell(**values):
    with OUT.open("a") as file:
        file.write(json.dumps(values) + chr(10))

class Run:
    url = "https://wandb.invalid/run"
    dir = "/nowhere/files"
    def log(self, data, step):
        tell(step=step, **data)
    def finish(self, exit_code):
        tell(exit_code=exit_code)

def init(**values):
    if values["project"] == "broken":
        raise RuntimeError("permission denied")
    tell(key=os.environ.get("WANDB_API_KEY"), **values)
    return Run()
"""


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def told(tmp_path: Path, script: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stand-in was told, a JSON object a line."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(packages)
    see(monkeypatch, packages)
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    return tmp_path / "told"


def see(monkeypatch: pytest.MonkeyPatch, *further: Path) -> None:
    """Child processes import this tunesmith, the scripted trainer and what is in `further`."""
    places = (Path(__file__).parent, Path(tunesmith.__file__).parents[1], *further)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))


@pytest.fixture
def run(
    store: Store,
    store_settings: Settings,
    submit: Submit,
    wait_for: WaitFor,
    script: object,
) -> Run:
    def train(project: str = "p", **changes: object) -> tuple[JobRow, list[EventRow]]:
        wandb = {"project": project, "name": None, "entity": None, "tags": ["mine"]}
        job = submit(integrations=({"type": "wandb", "wandb": wandb},))
        workers = Workers(store, store_settings.model_copy(update=changes))
        workers.start()
        try:
            row = wait_for(job, finished)
        finally:
            workers.stop()
        found = [event for event in store.jobs.events(job.id, limit=100).data if "Weights & Biases" in event.message]
        return row, found

    return train


@ONCE
def test_every_step_goes_out_under_the_jobs_id(run: Run, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    job, (event,) = run()
    assert job.status is JobStatus.SUCCEEDED
    assert (event.level, event.message) == (
        "info", "Weights & Biases: metrics of this job go to https://wandb.invalid/run",
    )  # fmt: skip
    begun, *steps, ended = [json.loads(line) for line in told.read_text().splitlines()]
    assert (begun["id"], begun["name"], begun["project"], begun["key"]) == (job.id, job.id, "p", "secret")
    assert begun["tags"] == ["mine", "tunesmith/finetune", "tunesmith/smollm2-135m-instruct", f"tunesmith/{job.id}"]
    assert begun["config"]["n_epochs"] == 10
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5, 6]
    assert (steps[1]["train_loss"], steps[1]["valid_loss"]) == (0.5, 1.0)
    assert ended == {"exit_code": 0}


@ONCE
@pytest.mark.usefixtures("told")
def test_a_fault_there_is_a_warning_and_the_job_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    job, (event,) = run("broken")
    assert job.status is JobStatus.SUCCEEDED
    assert event.level == "warn"
    assert event.message.endswith("gets no more metrics of this job: permission denied")


@ONCE
@pytest.mark.usefixtures("told")
def test_a_missing_key_is_a_warning_that_names_the_setting(run: Run) -> None:
    job, (event,) = run()
    assert (job.status, event.level) == (JobStatus.SUCCEEDED, "warn")
    assert "Set `wandb_api_key` (TUNESMITH_WANDB_API_KEY)" in event.message


@ONCE
@pytest.mark.skipif(find_spec("wandb") is not None, reason="the package is installed here")
def test_a_missing_package_is_a_warning_that_says_what_to_install(run: Run) -> None:
    job, (event,) = run()
    assert (job.status, event.level) == (JobStatus.SUCCEEDED, "warn")
    assert "pip install wandb" in event.message


@ONCE
@pytest.mark.skipif(find_spec("wandb") is None, reason="needs `pip install wandb` (125 MB)")
def test_the_real_package_writes_its_files_when_offline(
    run: Run, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = find_spec("wandb")
    assert installed is not None
    assert installed.origin is not None
    see(monkeypatch, Path(installed.origin).parents[1])
    monkeypatch.setenv("WANDB_MODE", "offline")
    job, (event,) = run()
    assert job.status is JobStatus.SUCCEEDED
    assert "wandb sync" in event.message
    (file,) = (store_settings.paths.jobs / job.id).rglob(f"run-{job.id}.wandb")
    data = file.read_bytes()
    assert all(word in data for word in (b"train_loss", b"valid_mean_token_accuracy", b"learning_rate"))
