"""What a run leaves on disk is read again, also where an earlier release or a killed process wrote it."""

import json
from pathlib import Path

import torch

from tunesmith.train.adapters.checkpoint import Journal, RunFiles, step_dir
from tunesmith.train.adapters.progress import Progress, load_progress, save_progress
from tunesmith.train.protocol.events import Checkpoint, Step

STEP = Step(step=3, total_steps=8, epoch=1, train_loss=0.5, train_mean_token_accuracy=0.25, grad_norm=1.5)
TENSORS = {"adapter": torch.arange(4.0)}


def test_progress_is_found_by_its_fingerprint_and_removed_otherwise(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    save_progress(files, Progress(3, 120, STEP, "mine", TENSORS))
    found = load_progress(files, "mine").progress
    assert found is not None
    assert (found.step, found.trained_tokens, found.unreported) == (3, 120, STEP)
    assert torch.equal(found.tensors["adapter"], TENSORS["adapter"])
    assert load_progress(files, "another's").progress is None
    assert load_progress(files, "mine").progress is None


def test_a_reported_step_comes_before_the_same_step_before_its_report(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    save_progress(files, Progress(3, 120, STEP, "mine", TENSORS))
    save_progress(files, Progress(3, 120, None, "mine", TENSORS))
    assert {path.name for path in files.progress.iterdir()} == {"step-000003-reported", "step-000003"}
    found = load_progress(files, "mine").progress
    assert found is not None
    assert found.unreported is None


def test_the_progress_of_the_release_before_is_read(tmp_path: Path) -> None:
    """Its measures were a plain object without a type, and are still written so."""
    files = RunFiles(tmp_path)
    save_progress(files, Progress(3, 120, STEP, "mine", TENSORS))
    state = step_dir(files.progress, 3) / "state.json"
    written = {"step": 3, "total_steps": 8, "epoch": 1, "train_loss": 0.5, "train_mean_token_accuracy": 0.25}
    assert json.loads(state.read_text())["unreported"] == written | {"grad_norm": 1.5}
    old = {"step": 3, "trained_tokens": 120, "unreported": written, "fingerprint": "mine"}
    state.write_text(json.dumps(old))
    found = load_progress(files, "mine").progress
    assert found is not None
    assert found.unreported == Step(3, 8, 1, 0.5, 0.25)


def test_a_journal_is_cut_back_to_the_progress_and_its_last_line_may_be_half(tmp_path: Path) -> None:
    path = tmp_path / "run" / "journal.jsonl"
    journal, past = Journal.resume(path, 0)
    assert past == []
    journal.add(STEP)
    journal.add(Checkpoint(3, 1, "/a"))
    journal.add(Step(4, 8, 1, 0.4, 0.5))
    journal.sync()
    journal.close()
    with path.open("a") as file:
        file.write('{"type": "step", "st')
    _, past = Journal.resume(path, 3)
    assert past == [STEP, Checkpoint(3, 1, "/a")]
    assert len(path.read_text().splitlines()) == 2
