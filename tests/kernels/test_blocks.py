"""Blocks of 8, 4 and 6 bits are read as gguf reads them, and train with the bits of the dequantised weights."""

import numpy
import pytest
from tests.kernels.blocks import BLOCK_KINDS, Bytes, random_blocks
from tests.kernels.cases.block_cases import widened
from tests.kernels.cases.frozen_cases import both_ways
from tests.kernels.cases.linear_cases import Lora
from tests.kernels.reference import Floats, Record, counter, normal, wide

from tunesmith.kernels import widths
from tunesmith.kernels.multiply import TILE_PANELS
from tunesmith.kernels.training import head
from tunesmith.kernels.training.step_args import HEAD_OUTPUTS, TRAIN_MATRIX, TRAIN_STEP_ARGS
from tunesmith.kernels.vectors import LANES, Number

INS, OUTS = 512, 5 * LANES


@pytest.mark.parametrize("kind", BLOCK_KINDS)
def test_blocks_stand_for_what_gguf_makes_of_them(kind: Number) -> None:
    panels, weight = random_blocks(numpy.random.default_rng(0), kind, OUTS, INS)
    made = from_panels(widened(kind, panels, INS))
    if kind == Number.INT4:  # rounded once where gguf rounds twice, of terms that may cancel
        largest = numpy.abs(weight).reshape(OUTS, -1, 32).max(-1, keepdims=True)
        errors = numpy.abs(made - weight).reshape(OUTS, -1, 32)
        assert (errors <= 2e-7 * largest).all()
    else:
        assert numpy.array_equal(made, weight)


def from_panels(panels: Floats) -> Floats:
    """[panels, ins, 16] -> [outs, ins]."""
    return numpy.ascontiguousarray(panels.transpose(0, 2, 1)).reshape(-1, panels.shape[1])


@pytest.mark.parametrize("kind", BLOCK_KINDS)
def test_a_square_is_transposed(kind: Number) -> None:
    panels, _ = random_blocks(numpy.random.default_rng(1), kind, OUTS, INS)
    copy, out = from_panels(widened(kind, panels, INS)), numpy.zeros((OUTS, LANES), numpy.float32)
    for square in (0, 1, 2, 15, 16, 17, 31):
        widths.transpose_panel(int(kind), panels.ctypes.data, panels.strides[0], len(panels), square, out.ctypes.data)
        assert numpy.array_equal(out, copy[:, square * LANES : (square + 1) * LANES])


@pytest.mark.parametrize("kind", BLOCK_KINDS)
def test_a_frozen_matrix_trains_with_the_bits_of_a_float32_copy(kind: Number) -> None:
    """Forward, the gradient of its input, and its LoRA's."""
    lora, copy = (Lora.of(5, (5, LANES), False, ins=256) for _ in range(2))
    panels, weight = random_blocks(numpy.random.default_rng(2), kind, len(lora.weight), 256)
    lora.matrix.set(kind=int(kind), weight=panels)
    copy.matrix.set(weight=widened(kind, panels, 256))
    mine, theirs = both_ways(lora), both_ways(copy)
    for one, other in zip(mine, theirs, strict=True):
        assert numpy.array_equal(one, other)
    update = sum(
        numpy.pad(
            lora.lora_hidden()[:, lora.hidden(index)] @ wide(lora.b[index]).T,
            ((0, 0), (lora.columns(index).start, lora.grad.shape[1] - lora.columns(index).stop)),
        )
        for index in range(2)
    )
    numpy.testing.assert_allclose(
        mine[0], wide(lora.x) @ wide(weight).T + lora.grad + lora.matrix["bias"] + update, atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("kind", BLOCK_KINDS)
def test_an_output_layer_trains_with_the_bits_of_a_float32_copy(kind: Number) -> None:
    outs = HEAD_OUTPUTS + 3 * LANES  # a part of the vocabulary, and the beginning of another
    panels, weight = random_blocks(numpy.random.default_rng(3), kind, outs, 256)
    logits, grads = passes(kind, panels, outs)
    assert numpy.array_equal(logits, passes(Number.FLOAT32, widened(kind, panels, 256), outs)[0])
    assert numpy.array_equal(grads, passes(Number.FLOAT32, widened(kind, panels, 256), outs)[1])
    x = wide(normal(numpy.random.default_rng(4), 7, 256))
    numpy.testing.assert_allclose(logits, x @ wide(weight).T, atol=1e-4, rtol=1e-5)
    exact = logits.astype(numpy.float64) @ wide(weight)
    numpy.testing.assert_allclose(grads, exact, atol=5e-6 * numpy.abs(exact).max(), rtol=0)


def passes(kind: Number, panels: Bytes | Floats, outs: int) -> tuple[Floats, Floats]:
    """Logits of 7 rows, and the gradient of their input where the logits are their own gradient."""
    x = normal(numpy.random.default_rng(4), 7, 256)
    matrix = Record(TRAIN_MATRIX, kind=int(kind), weight=panels, ins=256, outs=outs)
    scratch, logits = numpy.zeros(LANES * max(HEAD_OUTPUTS, TILE_PANELS * 256), numpy.float32), numpy.zeros((7, outs))
    args = Record(TRAIN_STEP_ARGS, head_rows=7, head_input=x, logits=logits.astype(numpy.float32), scratch=scratch)
    head.head_logits(args.one, counter(), 2, matrix.one, scratch.ctypes.data)
    head.head_back(args.one, counter(), matrix.one, scratch.ctypes.data)
    return args["logits"], args["head_input"]
