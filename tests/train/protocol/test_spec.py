"""The spec survives JSON, and what is wrong in it is named."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.train.protocol.spec import LoraSpec, SpecError, TrainSpec

SPEC = TrainSpec(
    job_id="ftjob-1",
    base_name="b",
    base_dir=Path("/b"),
    training_file=Path("/t"),
    output_dir=Path("/o"),
    lora=LoraSpec(rank=4, targets=("q_proj", "v_proj")),
)


def test_a_spec_survives_its_file(tmp_path: Path) -> None:
    SPEC.write(tmp_path / "spec.json")
    assert TrainSpec.read(tmp_path / "spec.json") == SPEC


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_epochs": 0}, "n_epochs is 0; it has to be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"method": "reinforcement"}, "method is 'reinforcement'; it has to be 'supervised' or 'dpo'"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it has to be above 0"),
        ({"schedule": "step"}, "linear, cosine or constant"),
    ],
)
def test_a_value_out_of_range_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(SPEC, **change)  # type: ignore[arg-type]


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(SpecError, match="unknown fields: lr"):
        TrainSpec.from_json({**SPEC.to_json(), "lr": 1.0})
    with pytest.raises(SpecError, match=r"incomplete: .*job_id"):
        TrainSpec.from_json({})
    with pytest.raises(SpecError, match="lora has unknown fields: r"):
        TrainSpec.from_json({**SPEC.to_json(), "lora": {"r": 1}})


def test_a_file_that_is_no_spec_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("[1]")
    with pytest.raises(SpecError, match="is a JSON object, not list"):
        TrainSpec.read(tmp_path / "spec.json")
    with pytest.raises(SpecError, match="cannot be read"):
        TrainSpec.read(tmp_path / "absent.json")


def test_the_worker_can_import_the_spec_without_torch() -> None:
    code = "import sys, tunesmith.train.protocol.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
