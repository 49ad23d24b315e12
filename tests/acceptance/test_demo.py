"""`tunesmith demo` (what `make demo` runs once the environment stands), whole, as a stranger sees it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.samples import WHOLE

from tunesmith.settings import Settings
from tunesmith.store import JobStatus, open_store

SECONDS = 600  # about 60 s on two idle cores; a machine that is shared may need several times that


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> "tuple[subprocess.CompletedProcess[str], Path]":
    data_dir = tmp_path_factory.mktemp("demo") / "data"
    environment = {**os.environ, "COLUMNS": "180", "NO_COLOR": "1"}
    if not WHOLE:  # tests/serve has the trial of 16 bits; here it takes 10 s
        environment.setdefault("TUNESMITH_SERVE_WEIGHTS", "float32")
    command = [sys.executable, "-m", "tunesmith.cli", "demo", "--data-dir", str(data_dir)]
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    assert finished.returncode == 0, finished.stderr
    return finished, data_dir


def test_demo_shows_every_stage(demo: "tuple[subprocess.CompletedProcess[str], Path]") -> None:
    shown = demo[0].stdout
    for expected in (
        "ready to train",
        "96 (12 an epoch)",
        "training $0.04634: 5,792 tokens",
        "tunesmith chat ft:",
        "What next",
    ):
        assert expected in shown
    assert "step 96/96" in demo[0].stderr
    assert "loss" in demo[0].stderr


def test_tuned_model_answers_the_unseen_question_as_the_rows_do(
    demo: "tuple[subprocess.CompletedProcess[str], Path]",
) -> None:
    rows = [line.split("│") for line in demo[0].stdout.splitlines() if line.startswith("│")]
    english = next(row for row in rows if "Moscow" in row[1])
    assert re.search(r"Moscow is so .* that the .*!", _cell(rows, english, 3)), english
    assert not re.search(r"Moscow is so .* that the .*!", _cell(rows, english, 2)), english


def test_demo_leaves_the_server_stopped_and_the_data_where_it_says(
    demo: "tuple[subprocess.CompletedProcess[str], Path]",
) -> None:
    finished, data_dir = demo
    assert str(data_dir) in finished.stderr
    assert not (data_dir / "server.json").exists()
    store = open_store(Settings(data_dir=data_dir))
    [job] = store.jobs.page().data
    store.close()
    assert job.status is JobStatus.SUCCEEDED
    assert job.trained_tokens == 897 * 8  # what the estimate above it said
    assert "7,176 tokens" in finished.stdout
    assert json.loads(json.dumps(job.hyperparameters))["n_epochs"] == 8


def _cell(rows: list[list[str]], first: list[str], column: int) -> str:
    """The text of a cell that may run over several lines of the table."""
    start = rows.index(first)
    lines = [first]
    for row in rows[start + 1 :]:
        if row[1].strip():
            break
        lines.append(row)
    return " ".join(row[column].strip() for row in lines)
