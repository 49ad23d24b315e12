"""A run's fingerprint: the same as in earlier releases, and computed without reading a file at once."""

import tracemalloc
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from tests.train.protocol.test_spec import OLD

from tunesmith.settings import TrainingOptions
from tunesmith.train.fingerprint import spec_fingerprint
from tunesmith.train.protocol.spec import TrainSpec

# Computed by the release before `options`, of the spec `OLD` and the files of `spec`.
EARLIER = "38809a524037517df0ba25fb795f5027d3882811749e790909023cbd996c16ad"
MEBIBYTE = 1 << 20


@pytest.fixture
def spec(tmp_path: Path) -> TrainSpec:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "llama"}')
    (base / "tokenizer.json").write_text("{}")
    (tmp_path / "rows.jsonl").write_text("one\ntwo\n")
    (tmp_path / "held.jsonl").write_text("three\n")
    files = {"training_file": str(tmp_path / "rows.jsonl"), "validation_file": str(tmp_path / "held.jsonl")}
    return TrainSpec.from_json(OLD | files | {"base_dir": str(base)})


def test_a_running_job_is_recognised_after_the_update(spec: TrainSpec) -> None:
    assert spec_fingerprint(spec) == EARLIER
    assert spec_fingerprint(TrainSpec.from_json(spec.to_json())) == EARLIER


@pytest.mark.parametrize("name", [*TrainingOptions.model_fields])
def test_each_training_option_changes_it(spec: TrainSpec, name: str) -> None:
    """Or a run with another value would go on from this one's progress."""
    others = {"adapter": "none", "lora_targets": ["q_proj"], "quantization": "int8", "matmul_precision": "bfloat16"}
    others |= {"schedule": "constant"}
    value = others[name] if name in others else getattr(spec.options, name) + type(getattr(spec.options, name))(1)
    assert spec_fingerprint(replace(spec, options=spec.options.model_copy(update={name: value}))) != EARLIER


def test_a_known_hash_takes_the_files_place(spec: TrainSpec) -> None:
    rows, held = (sha256(text).hexdigest() for text in (b"one\ntwo\n", b"three\n"))
    known = replace(spec, training_sha256=rows, validation_sha256=held)
    spec.training_file.unlink()
    held_out = known.validation_file
    assert held_out is not None
    held_out.unlink()
    assert spec_fingerprint(known) == EARLIER
    assert spec_fingerprint(replace(known, training_sha256=held)) != EARLIER


def test_a_large_file_is_not_read_into_memory(spec: TrainSpec) -> None:
    with spec.training_file.open("wb") as file:
        file.truncate(64 * MEBIBYTE)
    tracemalloc.start()
    try:
        spec_fingerprint(spec)
        assert tracemalloc.get_traced_memory()[1] < 2 * MEBIBYTE
    finally:
        tracemalloc.stop()


def test_what_does_not_change_the_result_does_not_change_it(spec: TrainSpec, tmp_path: Path) -> None:
    again = replace(spec, attempt=2, nice=5, keep_checkpoints=9, checkpoint_seconds=0.0, output_dir=tmp_path / "other")
    assert spec_fingerprint(again) == EARLIER
    assert spec_fingerprint(replace(spec, seed=12)) != EARLIER
