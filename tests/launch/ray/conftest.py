"""The scripted trainer, and a data directory of a job whose trainer it is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.worker.conftest import script

from tunesmith.launch.protocol import Start
from tunesmith.store import JobFiles

__all__ = ["script"]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(data_dir: Path, script: Callable[..., None]) -> Start:
    """The first attempt of a job `ftjob-1`, whose rows are in a file beside the data directory."""
    files = JobFiles(data_dir / "jobs", "ftjob-1")
    files.output.mkdir(parents=True)
    rows = data_dir.with_name("rows.jsonl")
    rows.write_text("{}\n")
    spec = {"job_id": "ftjob-1", "attempt": 1, "output_dir": str(files.output), "threads": 0}
    spec["training_file"] = str(rows)
    files.spec(1).write_text(json.dumps(spec))
    return Start(files.spec(1), files.events(1), files.log(1), files.lock)


def base_of(folder: Path, weights: bytes) -> Path:
    """The folder of a base with these bytes for weights."""
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder
