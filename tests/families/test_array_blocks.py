"""Weights rounded to 8 and 4 bits when a base is loaded."""

from typing import cast

import numpy
import pytest
from gguf import GGMLQuantizationType, dequantize, quantize
from numpy.typing import NDArray
from tests.kernels.cases.block_cases import widened
from tests.kernels.reference import Floats

from tunesmith.families.array_panels import CHUNK, QUANTISED, Weights, Width, narrowest, pack, panel_bytes
from tunesmith.kernels.vectors import HAS_HALF, LANES
from tunesmith.system.pages import ArraySlab

pytestmark = pytest.mark.skipif(not HAS_HALF, reason="this processor cannot read float16 numbers, as scales are")
WIDTHS: list[Width] = ["int8", "int4"]


def weights(outs: int, ins: int) -> NDArray[numpy.float32]:
    """Of several sizes, with a block of zeros; all are bfloat16 numbers."""
    random = numpy.random.default_rng(outs + ins)
    made = random.standard_normal((outs, ins), dtype=numpy.float32) * random.random((outs, 1), dtype=numpy.float32)
    made[0, :32] = 0
    return (made.view(numpy.uint32) >> 16 << 16).view(numpy.float32)


def rounded(weight: Weights, width: Width) -> Floats:
    """[outs in whole panels, ins], as the kernels read the packed matrix."""
    memory = numpy.full(panel_bytes([weight], width), 77, numpy.uint8)
    panels = pack([weight], width, ArraySlab(memory))
    wide = widened(QUANTISED[width], cast(NDArray[numpy.uint8], panels), weight.shape[1])
    return wide.transpose(0, 2, 1).reshape(-1, weight.shape[1])


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_eight_bits_are_rounded_as_gguf_rounds_them(stored: str) -> None:
    weight = weights(40, 96)
    numbers: dict[str, Weights] = {
        "float32": weight,
        "bfloat16": (weight.view(numpy.uint32) >> 16).astype(numpy.uint16),
    }
    kept = numbers.get(stored, weight.astype(numpy.float16))
    if stored == "float16":
        weight = kept.astype(numpy.float32)
    kind = GGMLQuantizationType.Q8_0
    mine = rounded(kept, "int8")
    assert numpy.array_equal(mine[:40], dequantize(quantize(weight, kind), kind))
    assert not mine[40:].any()


@pytest.mark.parametrize("width", WIDTHS)
def test_weights_that_are_read_backwards_are_rounded_too(width: Width) -> None:
    weight = weights(32, 256)
    assert numpy.array_equal(rounded(weight[::-1], width), rounded(weight, width)[::-1])


@pytest.mark.parametrize("width", WIDTHS)
def test_a_matrix_of_several_pieces_is_rounded_whole(width: Width) -> None:
    outs, ins = 2 * CHUNK // 4096 + 3, 4096
    weight = numpy.tile(weights(7, ins), (-(-outs // 7), 1))[:outs]
    few, whole = rounded(weight[:7], width)[:7], rounded(weight, width)
    assert numpy.array_equal(whole[:outs], numpy.tile(few, (-(-outs // 7), 1))[:outs])


def test_what_came_from_eight_bits_gives_the_same_blocks() -> None:
    first = rounded(weights(32, 64), "int8")
    assert numpy.array_equal(rounded(first, "int8"), first)


def test_four_bits_are_within_a_step_of_the_weights() -> None:
    weight = weights(48, 512)
    parts = weight.reshape(48, 16, 32)
    step = (parts.max(2).clip(min=0) - parts.min(2).clip(max=0)) / 15
    error = numpy.abs(rounded(weight, "int4").reshape(parts.shape) - parts)
    largest = step.reshape(48, 2, 8).max(2).repeat(8, 1)
    assert (error.max(2) <= 0.5 * step + largest).all()
    assert error.mean() < 0.3 * step.mean()  # 0.25 where nothing but the numbers themselves is rounded
    assert not rounded(weight, "int4")[0, :32].any()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, -numpy.inf], ids=str)
def test_weights_that_are_no_numbers_stay_so(width: Width, bad: float) -> None:
    """A broken model must not answer like a working one."""
    weight = weights(LANES, 512)
    weight[3, 70] = bad
    found = rounded(weight, width)
    assert numpy.isnan(found[3, 64:96]).all()
    assert not numpy.isnan(numpy.delete(found, 3, 0)).any()


@pytest.mark.parametrize(
    ("inputs", "wanted", "width"),
    [
        (512, "int4", "int4"),
        (576, "int4", "int8"),
        (576, "int8", "int8"),
        (80, "int4", "bfloat16"),
        (80, "int8", "bfloat16"),
        (512, "float16", "float16"),
    ],
)
def test_blocks_are_whole(inputs: int, wanted: Width, width: Width) -> None:
    assert narrowest(inputs, wanted, "bfloat16") == width
