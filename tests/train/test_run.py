"""Whole runs: what is reported, what lies on disk, and that a killed run ends as an undisturbed one."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from tests.render.bases import VOCABULARY, make_base
from tests.train.conftest import chat_line

from tunesmith.errors import DataError, InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import load_tensors, read_manifest
from tunesmith.render.renderer import load_renderer
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.interrupt import Interrupt, Stopped
from tunesmith.train.loop import NonFiniteLoss, Run
from tunesmith.train.protocol.events import Event, Step
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.start import start

Make = Callable[..., TrainSpec]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def train(spec: TrainSpec) -> list[JsonObject]:
    events: list[Event] = []
    start(spec, events.append, Interrupt()).train()
    return [event.to_json() for event in events]


def of_type(events: list[JsonObject], kind: str) -> list[JsonObject]:
    return [event for event in events if event["type"] == kind]


def final_adapter(spec: TrainSpec) -> bytes:
    return (spec.output_dir / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_run_reports_every_step_and_leaves_an_adapter(make_spec: Make) -> None:
    spec = make_spec()
    events = train(spec)
    steps = of_type(events, "step")
    assert [step["step"] for step in steps] == list(range(1, 9))
    assert steps[-1]["train_loss"] < steps[0]["train_loss"]  # type: ignore[operator]
    (started,) = of_type(events, "started")
    assert started["total_steps"] == 8
    assert started["resumed_from_step"] == 0
    done = events[-1]
    assert done["type"] == "done"
    assert done["trained_tokens"] == 2 * int(str(started["tokens_per_epoch"]))
    manifest = read_manifest(Path(str(done["path"])))
    renderer = load_renderer(spec.base_dir)
    assert (manifest.step, manifest.renderer, manifest.base_name) == (8, renderer.name, "tiny")


def test_a_checkpoint_is_reported_at_each_epoch_end_and_the_newest_are_kept(make_spec: Make) -> None:
    spec = make_spec(n_epochs=3, keep_checkpoints=2)
    checkpoints = of_type(train(spec), "checkpoint")
    assert [checkpoint["step"] for checkpoint in checkpoints] == [4, 8, 12]
    kept = sorted(path.name for path in (spec.output_dir / "checkpoints").iterdir())
    assert kept == ["step-000008", "step-000012"]
    assert (
        load_tensors(spec.output_dir / "checkpoints" / "step-000012").keys()
        == load_tensors(spec.output_dir / "adapter").keys()
    )


def test_validation_is_reported_on_a_sample_and_in_full_at_epoch_ends(make_spec: Make, chat_file: Path) -> None:
    steps = of_type(train(make_spec(validation_file=chat_file, validate_every=2)), "step")
    assert [step["step"] for step in steps if "valid_loss" in step] == [1, 2, 4, 6, 8]
    assert [step["step"] for step in steps if "full_valid_loss" in step] == [4, 8]
    assert steps[7]["full_valid_loss"] == steps[7]["valid_loss"]  # ten rows are all of the sample


def test_the_plain_path_trains_to_the_same_losses(make_spec: Make, tmp_path: Path) -> None:
    fast = of_type(train(make_spec()), "step")
    plain = of_type(train(make_spec(packing=False, output_dir=tmp_path / "plain")), "step")
    for mine, theirs in zip(fast, plain, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
        assert mine["train_mean_token_accuracy"] == theirs["train_mean_token_accuracy"]


class StopAfter:
    """Listens to a run and stops it after a step, as SIGTERM would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step) and event.step == self.step:
            signal.raise_signal(signal.SIGTERM)


def stopped(spec: TrainSpec, listener: StopAfter) -> Run:
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    interrupt.install()
    try:
        run = start(spec, listener, interrupt)
        with pytest.raises(Stopped):
            run.train()
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    return run


def test_blocked_weights_train_to_the_same_losses(make_spec: Make, tmp_path: Path) -> None:
    blocked, plain = (train(make_spec(output_dir=tmp_path / str(way), blocked_weights=way)) for way in (True, False))
    for one, other in zip(of_type(blocked, "step"), of_type(plain, "step"), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_stopped_run_resumes_to_the_same_bits(make_spec: Make, tmp_path: Path, step: int) -> None:
    whole = make_spec(output_dir=tmp_path / "whole")
    expected = train(whole)
    spec = make_spec(attempt=1)
    stopped(spec, StopAfter(step))
    events = train(make_spec(attempt=2))
    assert of_type(events, "started")[0]["resumed_from_step"] == step
    assert final_adapter(spec) == final_adapter(whole)
    mine, theirs = (
        [(e["step"], e["train_loss"], e["grad_norm"]) for e in of_type(x, "step")] for x in (events, expected)
    )
    assert mine == theirs  # the steps before the stop are replayed, so that none can be lost
    assert [e["step"] for e in of_type(events, "checkpoint")] == [4, 8]


def test_a_stopped_run_with_dropout_resumes_to_the_same_bits(make_spec: Make, tmp_path: Path) -> None:
    lora = {"lora_rank": 4, "lora_alpha": 8.0, "lora_dropout": 0.2}
    whole = make_spec(output_dir=tmp_path / "whole", **lora)
    train(whole)
    spec = make_spec(**lora)
    stopped(spec, StopAfter(5))
    train(spec)
    assert final_adapter(spec) == final_adapter(whole)


@pytest.mark.parametrize(("save_seconds", "saves"), [(0.0, True), (60.0, False)])
def test_what_takes_long_to_save_is_saved_less_often(make_spec: Make, save_seconds: float, saves: bool) -> None:
    spec = make_spec(n_epochs=1, checkpoint_seconds=1e-6)
    seen: list[bool] = []
    run = start(spec, lambda event: seen.append((spec.output_dir / "progress").is_dir()), Interrupt())
    run.save_seconds = save_seconds
    run.train()
    assert seen[-2] is saves  # before the last event; at its end every run saves


def test_a_changed_job_does_not_resume(make_spec: Make) -> None:
    stopped(make_spec(), StopAfter(3))
    assert of_type(train(make_spec(seed=8)), "started")[0]["resumed_from_step"] == 0


def test_a_loss_that_is_no_number_names_step_and_lines(make_spec: Make) -> None:
    run = start(make_spec(), lambda event: None, Interrupt())
    with torch.no_grad():
        cast(Adapter, run.trainable).flat.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match=r"step 1 is nan.*lines \d+, \d+, \d+ of the training file") as caught:
        run.train()
    assert caught.value.code == "non_finite_loss"


def test_a_row_without_anything_to_learn_is_named(make_spec: Make, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}\n'
    )
    with pytest.raises(DataError, match=r"line 1, messages: Every assistant message has weight 0"):
        train(make_spec(training_file=path))


def test_a_token_that_the_weights_do_not_know_names_its_line(
    make_spec: Make, base_dir: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """As with the tokenizer of a larger vocabulary; without words it would be an index that is out of range."""
    base = make_base(base_dir, tmp_path / "base", TEMPLATE)
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["Qz"] = VOCABULARY
    tokenizer["model"]["merges"].append(["Q", "z"])
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    for file in ("config.json", "model.safetensors"):
        shutil.copy(tiny_base / file, base / file)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        chat_line("Hi.", "How are you?", "Well.") + "\n" + chat_line("Hi.", "Say Qz.", "No.") + "\n", "utf-8"
    )
    with pytest.raises(DataError, match=f"Line 2 .* token {VOCABULARY}, .* tokens 0 to {VOCABULARY - 1} only"):
        train(make_spec(base_dir=base, training_file=rows))


def test_preferences_are_refused_by_the_supervised_method(make_spec: Make, preference_file: Path) -> None:
    with pytest.raises(DataError, match=r"Line 1 .* cannot be trained with the method 'supervised'"):
        train(make_spec(training_file=preference_file))


def test_a_missing_base_is_named(make_spec: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"has no config\.json"):
        train(make_spec(base_dir=tmp_path))


def test_dpo_raises_the_preferred_answers(make_spec: Make, preference_file: Path) -> None:
    events = train(make_spec(method="dpo", beta=0.1, training_file=preference_file, validation_file=preference_file))
    steps = of_type(events, "step")
    assert steps[0]["train_loss"] == pytest.approx(0.6931, abs=1e-4)  # log 2: the adapter has not moved yet
    assert steps[-1]["full_valid_loss"] < 0.69  # type: ignore[operator]
    assert steps[-1]["full_valid_mean_token_accuracy"] == 1.0


def test_a_base_that_the_tree_does_not_compute_trains_padded_and_says_so(make_spec: Make, stablelm_base: Path) -> None:
    events = train(make_spec(base_dir=stablelm_base, n_epochs=1))
    (warning,) = [event for event in of_type(events, "log") if event["level"] == "warn"]
    assert "padded path" in str(warning["message"])
    assert "StableLmAttention does not pass keywords on to its attention" in str(warning["message"])
    assert events[-1]["type"] == "done"


def test_a_tuned_model_can_be_trained_further(make_spec: Make, tmp_path: Path) -> None:
    first = make_spec(output_dir=tmp_path / "first")
    before = of_type(train(first), "step")
    after = of_type(train(make_spec(init_adapter_dir=first.output_dir / "adapter")), "step")
    assert after[0]["train_loss"] < before[0]["train_loss"]  # type: ignore[operator]


def test_the_time_left_falls_to_zero(make_spec: Make) -> None:
    steps = of_type(train(make_spec(n_epochs=10, batch_size=1)), "step")
    assert steps[-1]["seconds_left"] == 0
    assert all(step["seconds_left"] > 0 for step in steps[:-1])  # type: ignore[operator]


def launch(spec: TrainSpec, path: Path) -> subprocess.Popen[str]:
    spec.write(path)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tunesmith.train", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def lines_of(process: subprocess.Popen[str]) -> list[JsonObject]:
    assert process.stdout is not None
    with process.stdout:
        return [json.loads(line) for line in process.stdout]


def test_sigkill_at_any_moment_loses_no_step(make_spec: Make, tmp_path: Path) -> None:
    whole = make_spec(output_dir=tmp_path / "whole", n_epochs=5, blocked_weights=True)
    expected = train(whole)
    spec = make_spec(n_epochs=5, checkpoint_seconds=0.05, blocked_weights=True)
    process = launch(spec, tmp_path / "spec.json")
    assert process.stdout is not None
    for line in process.stdout:
        if '"step": 13,' in line:
            process.kill()
            break
    process.stdout.close()
    process.wait()
    again = launch(spec, tmp_path / "spec.json")
    events = lines_of(again)
    assert again.wait() == 0
    assert int(str(of_type(events, "started")[0]["resumed_from_step"])) > 0
    mine, theirs = (
        [(e["step"], e["train_loss"], e["grad_norm"]) for e in of_type(x, "step")] for x in (events, expected)
    )
    assert mine == theirs
    assert final_adapter(spec) == final_adapter(whole)


def test_a_failure_is_the_last_line_and_the_exit_code(make_spec: Make, tmp_path: Path) -> None:
    process = launch(make_spec(max_tokens=3), tmp_path / "spec.json")
    events = lines_of(process)
    assert process.wait() == 1
    assert events[-1]["type"] == "failed"
    assert "the limit is 3" in str(events[-1]["message"])
