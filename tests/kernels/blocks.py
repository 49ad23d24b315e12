"""Random blocks as GGUF has them, what its own package makes of them, and the same in panels."""

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize, quantize
from gguf.quants import Q4_K
from numpy.typing import NDArray
from tests.kernels.reference import Floats

from tunesmith.kernels.blocks import BLOCK_INPUTS
from tunesmith.kernels.vectors import HAS_HALF, LANES, Number

Bytes = NDArray[numpy.uint8]
TYPES = {
    Number.INT8: GGMLQuantizationType.Q8_0,
    Number.INT4: GGMLQuantizationType.Q4_K,
    Number.INT6: GGMLQuantizationType.Q6_K,
}
BLOCK_KINDS = [*TYPES] if HAS_HALF else []  # that this processor reads


def random_blocks(random: numpy.random.Generator, kind: Number, outs: int, ins: int) -> tuple[Bytes, Floats]:
    """Panels [panels, bytes] of random blocks, and the weights [outs, ins] that the gguf package makes of these."""
    inputs, size = GGML_QUANT_SIZES[TYPES[kind]]
    assert inputs == BLOCK_INPUTS[kind]
    blocks = random.integers(0, 256, (outs, ins // inputs, size), dtype=numpy.uint8)
    factors = (random.random((outs, ins // inputs, 2)) * 0.01).astype(numpy.float16).view(numpy.uint8)
    if kind == Number.INT6:
        blocks[..., -2:] = factors[..., :2]
    else:
        blocks[..., : 2 if kind == Number.INT8 else 4] = factors[..., : 2 if kind == Number.INT8 else 4]
    weight: Floats = dequantize(blocks.reshape(outs, -1), TYPES[kind])
    return PANELS[kind](blocks), weight


def _int8(blocks: Bytes) -> Bytes:
    return panels_of(blocks[..., :2].copy().view(numpy.float16), blocks[..., 2:])


def _int4(blocks: Bytes) -> Bytes:
    outs, count, _ = blocks.shape
    halves = blocks[..., :4].copy().view(numpy.float16)
    scales = [part.reshape(outs, count, 8) for part in Q4_K.get_scale_min(blocks[..., 4:16].reshape(-1, 12))]
    pairs = blocks[..., 16:].reshape(outs, count, 4, 1, 32)
    numbers: Bytes = (pairs >> numpy.array([[0], [4]], numpy.uint8)) & numpy.uint8(15)
    return panels_of(halves[..., :1], halves[..., 1:], *scales, eights(numbers.reshape(outs, count, 32, 8)))


def eights(numbers: Bytes) -> NDArray[numpy.uint32]:
    """Eight numbers of 4 bits in one, the first in the lowest bits."""
    bits = numbers.astype(numpy.uint32) << numpy.arange(0, 32, 4, dtype=numpy.uint32)
    made: NDArray[numpy.uint32] = bits.sum(-1, dtype=numpy.uint32)
    return made


def _int6(blocks: Bytes) -> Bytes:
    outs, count, _ = blocks.shape
    low = blocks[..., :128].reshape(outs, count, 2, 1, 64) >> numpy.array([[0], [4]], numpy.uint8) & 15
    moves = numpy.array([[0], [2], [4], [6]], numpy.uint8)
    high = blocks[..., 128:192].reshape(outs, count, 2, 1, 32) >> moves & 3
    numbers = low.reshape(outs, count, 8, 32) | high.reshape(outs, count, 8, 32) << 4
    whole = (numbers.astype(numpy.int8) - 32).reshape(outs, count, 256)
    factor, scale = blocks[..., 208:].copy().view(numpy.float16), blocks[..., 192:208]
    return panels_of(factor, numpy.zeros_like(factor), scale, numpy.zeros_like(scale), whole)


PANELS = {Number.INT8: _int8, Number.INT4: _int4, Number.INT6: _int6}


def panels_of(*parts: NDArray[numpy.generic]) -> Bytes:
    """Parts of blocks [outs, blocks, n] as `kernels.blocks` lays them out: [panels, bytes]."""
    columns = []
    for part in parts:
        outs, count, width = part.shape
        lanes = part.reshape(outs // LANES, LANES, count, width).transpose(0, 2, 3, 1)
        columns.append(numpy.ascontiguousarray(lanes).view(numpy.uint8).reshape(outs // LANES, count, -1))
    return numpy.concatenate(columns, 2).reshape(outs // LANES, -1)


def eight_bits(weight: Floats) -> Floats:
    """What gguf's Q8_0 makes of weights [outs, ins]."""
    made: Floats = dequantize(quantize(weight, TYPES[Number.INT8]), TYPES[Number.INT8])
    return made


def four_bits(weight: Floats) -> Floats:
    """Weights [outs, ins] between each part's least and largest value in 15 steps, whose scales have 6 bits."""
    parts = weight.reshape(len(weight), -1, 8, 32)
    below = numpy.maximum(-parts.min(3), 0)
    scale, scale_factor = _six_bits(numpy.maximum(parts.max(3) + below, 0) / numpy.float32(15))
    least, least_factor = _six_bits(below)
    step, shift = (scale_factor * scale)[..., None], (least_factor * least)[..., None]
    inverse = numpy.divide(1, step, out=numpy.zeros_like(step), where=step > 0)
    numbers = ((parts + shift) * inverse).round().clip(0, 15)
    made: Floats = (step * numbers - shift).reshape(weight.shape)
    return made


def _six_bits(values: Floats) -> tuple[Floats, Floats]:
    """Whole numbers up to 63 and their factor [outs, blocks, 1]."""
    factor = (values.max(2, keepdims=True) / numpy.float32(63)).astype(numpy.float16).astype(numpy.float32)
    inverse = numpy.divide(1, factor, out=numpy.zeros_like(factor), where=factor > 0)
    return (values * inverse).round().clip(0, 63), factor
