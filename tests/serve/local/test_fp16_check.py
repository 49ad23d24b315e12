import json
from pathlib import Path

import numpy
import pytest
import torch

from tunesmith.kernels.vectors import HAS_HALF
from tunesmith.serve.local import loading
from tunesmith.serve.local.fp16_check import Finding, compare, fits_fp16, overflows_fp16, read_width
from tunesmith.serve.local.loading import load_runner
from tunesmith.settings import Settings

needs_half = pytest.mark.skipif(not HAS_HALF, reason="this processor cannot read float16 numbers")


def test_bfloat16_values_mostly_fit_half_and_others_do_not() -> None:
    assert fits_fp16(torch.rand(50, 50).add(0.5).bfloat16().float().numpy())
    assert not fits_fp16(torch.randn(50, 50).numpy())
    assert overflows_fp16(numpy.array([1.0, 70000.0], numpy.float32))
    assert overflows_fp16(numpy.array([1.0, -70000.0], numpy.float32))
    assert not overflows_fp16(numpy.array([65504.0, -65504.0], numpy.float32))


def test_bits_of_bfloat16_are_read_as_its_numbers() -> None:
    numbers = torch.tensor([1.5, -0.0078125, 3.0]).bfloat16()
    bits = numbers.view(torch.int16).numpy().view(numpy.uint16)
    assert fits_fp16(bits)
    assert not overflows_fp16(bits)
    large = torch.tensor([1e30]).bfloat16().view(torch.int16).numpy().view(numpy.uint16)
    assert overflows_fp16(large)
    assert not fits_fp16(large)


def test_a_finding_counts_places_and_nats() -> None:
    plain = numpy.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 1.0]], numpy.float32)
    same = compare(plain, plain, [0, 0, 1, 1])
    assert (same.agreement, same.surprise, same.acceptable) == (1.0, 0.0, True)
    other = compare(plain, plain[::-1], [0, 0, 1, 1])
    assert not other.acceptable
    assert same.told == "the rounded weights read a text as those of full width do"
    assert other.told.endswith("otherwise than those of full width: answers may differ")
    assert other.agreement == 0.0


@needs_half
def test_the_real_base_takes_half_the_bytes_and_the_finding_is_kept(base_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert load_runner(base_dir, settings)[1] == "float16"
    (note,) = (tmp_path / "serve").iterdir()
    found = Finding(**json.loads(note.read_text())["value"])
    assert found.acceptable
    assert read_width(note) == "float16"
    note.write_text(json.dumps({"agreement": 0.5, "surprise": 0.0}))
    assert load_runner(base_dir, settings)[1] == "float32"


@needs_half
def test_a_base_that_bears_no_rounding_keeps_its_width(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compare", lambda *_: Finding(0.9, 0.2))  # a base as sensitive as that is not at hand
    assert load_runner(base_dir, Settings(data_dir=tmp_path))[1] == "float32"
