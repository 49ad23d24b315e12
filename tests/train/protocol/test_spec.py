"""The spec survives JSON, in today's shape and the one before, and what is wrong in it is named."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import TrainingOptions
from tunesmith.train.protocol.spec import SpecError, TrainSpec

SPEC = TrainSpec(
    job_id="ftjob-1",
    base_name="b",
    base_dir=Path("/b"),
    training_file=Path("/t"),
    output_dir=Path("/o"),
    training_sha256="00ff",
    options=TrainingOptions(lora_rank=4, lora_targets=["q_proj", "v_proj"]),
)
OLD: JsonObject = {  # written by the release before `options`
    "job_id": "ftjob-1",
    "base_name": "tiny",
    "base_dir": "/b",
    "training_file": "/t",
    "output_dir": "/o",
    "attempt": 1,
    "init_adapter_dir": None,
    "validation_file": "/v",
    "method": "supervised",
    "n_epochs": 4,
    "batch_size": 2,
    "learning_rate": 0.00045,
    "learning_rate_multiplier": 1.5,
    "beta": None,
    "seed": 11,
    "max_tokens": 512,
    "adapter": "lora",
    "lora": {"rank": 8, "alpha": 12.0, "dropout": 0.1, "targets": ["q_proj", "v_proj"]},
    "quantization": "none",
    "warmup_ratio": 0.1,
    "schedule": "cosine",
    "weight_decay": 0.01,
    "max_grad_norm": 0.5,
    "threads": 2,
    "nice": 0,
    "keep_checkpoints": 3,
    "checkpoint_seconds": 30.0,
    "validate_every": 0,
    "micro_batch_tokens": 0,
    "blocked_weights": None,
    "packing": True,
}


def test_a_spec_survives_its_file(tmp_path: Path) -> None:
    SPEC.write(tmp_path / "spec.json")
    assert TrainSpec.read(tmp_path / "spec.json") == SPEC


def test_a_spec_of_the_release_before_is_read() -> None:
    spec = TrainSpec.from_json(OLD)
    assert spec.options == TrainingOptions(
        base_learning_rate=3e-4,
        lora_rank=8,
        lora_alpha=12.0,
        lora_dropout=0.1,
        lora_targets=["q_proj", "v_proj"],
        warmup_ratio=0.1,
        schedule="cosine",
        weight_decay=0.01,
        max_grad_norm=0.5,
    )
    assert (spec.learning_rate, spec.n_epochs, spec.training_sha256) == (0.00045, 4, None)
    assert TrainSpec.from_json(OLD | {"lora": {"targets": "attention"}}).options.target_names == ("attention",)


@pytest.mark.parametrize("multiplier", [0.1, 0.3, 1.3, 2.0, 3.7, 11.0])
@pytest.mark.parametrize("base_rate", [1e-4, 2.5e-4, 3.3e-4, 7.7e-5, 2e-5])
def test_the_rate_of_a_spec_of_the_release_before_is_kept_to_the_bit(base_rate: float, multiplier: float) -> None:
    old = OLD | {"learning_rate": base_rate * multiplier, "learning_rate_multiplier": multiplier}
    assert TrainSpec.from_json(old).learning_rate == base_rate * multiplier


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_epochs": 0}, "n_epochs is 0; it has to be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        (
            {"device": "gpu:1"},
            "device is 'gpu:1'; it has to be auto, cpu, cuda, or one of several GPUs, such as cuda:1",
        ),
        ({"method": "reinforcement"}, "method is 'reinforcement'; it has to be 'supervised' or 'dpo'"),
        ({"learning_rate_multiplier": 0.0}, "learning_rate_multiplier is 0.0; it has to be above 0"),
    ],
)
def test_a_value_out_of_range_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(SPEC, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "step"}, "schedule is 'step': .*'linear', 'cosine' or 'constant'"),
        ({"base_learning_rate": 0.0}, "base_learning_rate is 0.0: .*greater than 0"),
        ({"rank": 4}, "options has unknown fields: rank"),
    ],
)
def test_an_option_out_of_range_is_named(change: JsonObject, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        TrainSpec.from_json({**SPEC.to_json(), "options": change})
    assert caught.value.param == f"options.{next(iter(change))}"


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(SpecError, match="unknown fields: lr"):
        TrainSpec.from_json({**SPEC.to_json(), "lr": 1.0})
    with pytest.raises(SpecError, match=r"incomplete: .*job_id"):
        TrainSpec.from_json({})
    with pytest.raises(SpecError, match="lora has unknown fields: r"):
        TrainSpec.from_json(OLD | {"lora": {"r": 1}})
    with pytest.raises(SpecError, match="learning_rate_multiplier is 0"):
        TrainSpec.from_json(OLD | {"learning_rate_multiplier": 0})
    with pytest.raises(SpecError, match="base_learning_rate is 'fast'"):
        TrainSpec.from_json(OLD | {"learning_rate": "fast"})
    with pytest.raises(SpecError, match="unknown fields: learning_rate"):
        TrainSpec.from_json({**SPEC.to_json(), "learning_rate": 1.0})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lora": "all-linear"}, "lora"),
        ({"lora": [1]}, "lora"),
        ({"learning_rate": 10**400}, "options.base_learning_rate"),
        ({"learning_rate_multiplier": 10**400}, "learning_rate_multiplier"),
        ({"n_epochs": 1.5}, "n_epochs"),
        ({"n_epochs": "2"}, "n_epochs"),
        ({"seed": "x"}, "seed"),
        ({"packing": 1}, "packing"),
        ({"threads": None}, "threads"),
        ({"base_dir": 7}, "base_dir"),
        ({"validation_file": ["/v"]}, "validation_file"),
        ({"job_id": None}, "job_id"),
        ({"checkpoint_seconds": "soon"}, "checkpoint_seconds"),
    ],
)
def test_a_value_of_another_type_is_named(change: JsonObject, field: str) -> None:
    with pytest.raises(SpecError, match=rf"^{field.removeprefix('options.')} is ") as caught:
        TrainSpec.from_json(OLD | change)
    assert caught.value.param == field


def test_a_whole_number_for_a_fraction_stays_as_it_is() -> None:
    spec = TrainSpec.from_json(OLD | {"learning_rate": 0.0006, "learning_rate_multiplier": 2, "checkpoint_seconds": 30})
    assert repr((spec.learning_rate_multiplier, spec.checkpoint_seconds)) == "(2, 30)"


def test_a_file_that_is_no_spec_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("[1]")
    with pytest.raises(SpecError, match="is a JSON object, not list"):
        TrainSpec.read(tmp_path / "spec.json")
    with pytest.raises(SpecError, match="cannot be read"):
        TrainSpec.read(tmp_path / "absent.json")
    (tmp_path / "spec.json").write_text("[" * 100_000)
    with pytest.raises(SpecError, match="cannot be read"):
        TrainSpec.read(tmp_path / "spec.json")


def test_the_worker_can_import_the_spec_without_torch() -> None:
    code = "import sys, tunesmith.train.protocol.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
