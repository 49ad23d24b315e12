"""Bfloat16 bases served with products of rounded activations: close to exact ones, and checked before they are used.

As on a processor with AVX512-BF16: without it the same sums take two instructions instead of one.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy
import pytest
import torch
from numpy.typing import NDArray
from tests.families.zoo import SIZES as ZOO_SIZES
from tests.families.zoo import ZOO, build
from tests.render.bases import VOCABULARY, make_base
from tests.serve.local.test_compiled_families import RANKS, one_thread, text, write_lora  # noqa: F401 - a fixture
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.errors import InvalidRequest
from tunesmith.families.array_panels import Width
from tunesmith.kernels.dots.unit import DotUnit, dot_unit
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local import loading
from tunesmith.serve.local.fp16_check import Finding, write_finding
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.local.runner import AnyAdapter
from tunesmith.serve.local.torch_weights import weights_of
from tunesmith.settings import Settings

FAMILIES = ["llama", "phi3", "gemma3_text", "olmo2", "granite"]
WIDE: dict[str, object] = {"hidden_size": 64, "intermediate_size": 96}
SIZES = {**ZOO_SIZES, "vocab_size": VOCABULARY}
WEIGHTS: Width = "bfloat16"
Chunk: TypeAlias = SequenceChunk[AnyAdapter]


@pytest.fixture
def base(base_dir: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    directory = make_base(base_dir, tmp_path / "base", None)
    LlamaForCausalLM(LlamaConfig(**SIZES)).bfloat16().save_pretrained(directory)
    return directory


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", serve_matmul_precision="bfloat16")


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "dot_unit", lambda: DotUnit.VECTOR)


def logits(runner: CompiledRunner, *chunks: Chunk, threads: int = 2) -> NDArray[numpy.float32]:
    return runner.forward(chunks, threads).copy()


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_nearly_those_of_exact_products(name: str, tmp_path: Path) -> None:
    """With an adapter, whose own products stay exact; a sequence has the same bits whatever is beside it."""
    tiny = replace(ZOO[name], changes={**ZOO[name].changes, **WIDE})
    model = build(tiny).bfloat16()
    folder = write_lora(model, RANKS[0], tmp_path / "adapter")
    runner = CompiledRunner(weights_of(model), WEIGHTS)
    assert runner.takes_dots
    adapter: AnyAdapter = runner.read_adapter(folder)
    alone, beside = (SequenceChunk(slot, 0, text(length), adapter, length) for slot, length in ((0, 19), (1, 37)))
    exact = logits(runner, alone)
    runner.use_dots(DotUnit.VECTOR)
    rounded = logits(runner, alone)
    assert 0 < numpy.abs(rounded - exact).max() < 0.05 * numpy.abs(exact).max()
    assert numpy.array_equal(logits(runner, alone, beside, threads=3)[:19], rounded)
    runner.clear(0)
    first, last = (
        SequenceChunk(0, start, text(19)[start:end], adapter, end - start) for start, end in ((0, 18), (18, 19))
    )
    parts = numpy.concatenate([logits(runner, first, threads=1), logits(runner, last)])
    assert numpy.array_equal(parts, rounded)
    runner.use_dots(DotUnit.NONE)
    assert numpy.array_equal(logits(runner, alone), exact)


def test_what_rounding_costs_is_measured_once(base: Path, settings: Settings, unit: None) -> None:
    runner, width = load_runner(base, settings)
    assert width == WEIGHTS
    (kept,) = settings.paths.serve.glob("*-vector.json")
    found = Finding(**json.loads(kept.read_text())["value"])
    assert found.agreement > 0.9
    assert 0 < abs(found.surprise) < 0.01
    chunk: Chunk = SequenceChunk(0, 0, text(9), None, 9)
    exact, _ = load_runner(base, settings.model_copy(update={"serve_matmul_precision": "float32"}))
    assert not numpy.array_equal(runner.forward([chunk]), exact.forward([chunk]))
    written = kept.stat().st_mtime_ns
    load_runner(base, settings)
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize("found", [Finding(0.5, 0.0), Finding(1.0, 0.5), Finding(1.0, float("nan"))])
def test_a_unit_that_errs_is_not_used(base: Path, settings: Settings, unit: None, found: Finding) -> None:
    load_runner(base, settings)
    (kept,) = settings.paths.serve.glob("*-vector.json")
    write_finding(kept, found)
    chunk: Chunk = SequenceChunk(0, 0, text(9), None, 9)
    runner, _ = load_runner(base, settings)
    exact, _ = load_runner(base, settings.model_copy(update={"serve_matmul_precision": "float32"}))
    assert numpy.array_equal(runner.forward([chunk]), exact.forward([chunk]))


@pytest.mark.skipif(bool(dot_unit()), reason="this processor has such a unit")
def test_a_processor_without_a_unit_is_told(base: Path, settings: Settings) -> None:
    with pytest.raises(
        InvalidRequest, match=r"Setting serve_matmul_precision: this processor has neither.*Set it to 'float32'"
    ):
        load_runner(base, settings)


def test_a_base_in_float32_keeps_exact_products(base: Path, settings: Settings, unit: None) -> None:
    LlamaForCausalLM.from_pretrained(base, dtype=torch.float32).save_pretrained(base)
    runner, _ = load_runner(base, settings)
    assert isinstance(runner, CompiledRunner)
    assert not runner.takes_dots
    with pytest.raises(ValueError, match="not bfloat16"):
        runner.use_dots(DotUnit.VECTOR)
