"""Bases served in 8 and 4 bits: the logits of their dequantised weights in all compiled families, of 8 to the bit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from numpy.typing import NDArray
from tests.families.test_array_blocks import rounded
from tests.families.zoo import ZOO, build
from tests.serve.local.test_compiled_families import RANKS, one_thread, text, write_lora  # noqa: F401 - a fixture

from tunesmith.families.array_panels import QUANTISED, Weights, Width, narrowest
from tunesmith.kernels.vectors import HAS_HALF
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.base_weights import BaseWeights
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.runner import AnyAdapter
from tunesmith.serve.local.torch_weights import weights_of

pytestmark = pytest.mark.skipif(not HAS_HALF, reason="this processor cannot read float16 numbers, as scales are")
FAMILIES = ["smollm3", "phi3", "gemma2", "gemma3_text", "olmo2", "granite", "glm4", "exaone4"]
# So that 4 bits have whole blocks, but for attention's output.
WIDE: dict[str, object] = {"hidden_size": 256, "intermediate_size": 512}


def dequantised(base: BaseWeights, width: Width) -> BaseWeights:
    """The same base with the numbers that its rounded weights stand for."""
    made: dict[str, Weights] = dict(base.tensors)
    for path, (outs, ins) in base.sizes.items():
        own = narrowest(ins, "int8" if path == "lm_head" else width, "float32")
        assert own in QUANTISED
        made[f"{path}.weight"] = numpy.ascontiguousarray(rounded(base.weight(path), own)[:outs])
    return replace(base, tensors=made)


def logits(runner: CompiledRunner, chunks: Sequence[SequenceChunk[AnyAdapter]]) -> NDArray[numpy.float32]:
    return runner.forward(chunks, 2).copy()


@pytest.mark.parametrize("width", ["int8", "int4"])
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_the_dequantised_weights(name: str, width: Width, tmp_path: Path) -> None:
    """Few rows and many, with and without an adapter."""
    tiny = replace(ZOO[name], changes={**ZOO[name].changes, **WIDE})
    folder = write_lora(build(tiny), RANKS[0], tmp_path / "adapter")
    base, same, again = (weights_of(build(tiny)) for _ in range(3))  # a runner uses them up
    narrow, wide, plain = CompiledRunner(base, width), CompiledRunner(dequantised(same, width)), CompiledRunner(again)
    for ids in (text(2), text(11)):
        of_narrow, of_wide = (
            logits(
                runner,
                [
                    SequenceChunk(0, 0, ids, None, len(ids)),
                    SequenceChunk(1, 0, ids, runner.read_adapter(folder), len(ids)),
                ],
            )
            for runner in (narrow, wide)
        )
        numpy.testing.assert_allclose(of_narrow, of_wide, rtol=0, atol=0 if width == "int8" else 1e-4)
        assert numpy.ptp(of_narrow) > 0.1
        stored = logits(plain, [SequenceChunk(0, 0, ids, None, len(ids))])
        assert 0 < numpy.abs(stored - of_narrow[: len(ids)]).max() < numpy.abs(stored).max()


@pytest.mark.parametrize("width", ["int8", "int4"])
def test_a_prompt_in_pieces_has_the_bits_of_a_whole_one(width: Width) -> None:
    """In registers and through memory."""
    runner, ids = CompiledRunner(weights_of(build(replace(ZOO["smollm3"], changes=WIDE))), width), text(12)
    whole = logits(runner, [SequenceChunk(0, 0, ids, None, 12)])
    for first, last in ((0, 7), (7, 8), (8, 10), (10, 12)):
        piece = logits(runner, [SequenceChunk(1, first, ids[first:last], None, last - first)])
        assert numpy.array_equal(piece, whole[first:last])
