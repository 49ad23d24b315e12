"""Cases of frozen matrices in 16 bits: widened numbers, and a training step's linears and output layer over them."""

import numpy
from tests.kernels.cases.linear_cases import Lora
from tests.kernels.reference import (
    KINDS,
    Floats,
    Pairs,
    Record,
    counter,
    normal,
    records,
    reference,
    stored,
    to_panels,
    wide,
)

from tunesmith.kernels import widths
from tunesmith.kernels.multiply import TILE_PANELS
from tunesmith.kernels.training import head, linear
from tunesmith.kernels.training.step_args import HEAD_OUTPUTS, TRAIN_MATRIX, TRAIN_STEP_ARGS
from tunesmith.kernels.vectors import LANES

INS, OUTS = 5 * LANES, HEAD_OUTPUTS + 3 * LANES  # a part of the vocabulary, and the beginning of another


@reference(widths.widen, tolerance=0)
def widen_case(size: int) -> Pairs:
    """A panel of `size` rows, in each format."""
    pairs = []
    for kind in KINDS:
        panel, out = stored(normal(numpy.random.default_rng(size), size, LANES), kind), numpy.zeros((size, LANES))
        out = out.astype(numpy.float32)
        widths.widen(int(kind), panel.ctypes.data, out.ctypes.data, size)
        pairs.append((out, wide(panel)))
    return pairs


@reference(widths.transpose_panel, tolerance=0)
def transpose_panel_case(size: int) -> Pairs:
    """The second 16 inputs of a matrix of `size` panels and 48 inputs, seen from its outputs' side."""
    pairs = []
    for kind in KINDS:
        weight = stored(normal(numpy.random.default_rng(size), size * LANES, 3 * LANES), kind)
        panels, out = to_panels(weight), numpy.zeros((size * LANES, LANES), numpy.float32)
        widths.transpose_panel(int(kind), panels.ctypes.data, panels.strides[0], size, 1, out.ctypes.data)
        pairs.append((out, wide(weight[:, LANES : 2 * LANES])))
    return pairs


@reference(widths.read_numbers, tolerance=0)
def read_numbers_case(size: int) -> Pairs:
    pairs: list[tuple[Floats, Floats]] = []
    for kind in KINDS:
        numbers, out = stored(normal(numpy.random.default_rng(size), size), kind), numpy.zeros(size, numpy.float32)
        widths.read_numbers(int(kind), numbers.ctypes.data, out.ctypes.data, size)
        pairs.append((out, wide(numbers)))
    return pairs


def both_ways(lora: Lora) -> list[Floats]:
    """What a matrix gives forward and back, with its LoRA."""
    args, matrix, parts = lora.args, lora.matrix, records(*lora.parts)
    outputs, inputs = numpy.zeros_like(lora.grad), numpy.zeros_like(lora.x)
    lora.repack()
    x, grad = lora.x.ctypes.data, lora.grad.ctypes.data
    linear.prepare(args.one, counter(), matrix.one, x)
    linear.linear(args.one, counter(), 0, matrix.one, parts, x, outputs.ctypes.data, grad, lora.scratch)
    linear.lora_back(args.one, counter(), matrix.one, parts, grad, lora.scratch)
    linear.linear_back(args.one, counter(), 0, matrix.one, parts, grad, x, inputs.ctypes.data, lora.scratch)
    return [outputs, inputs, args["grads"]]


@reference(linear.frozen_product)
def frozen_product_case(size: int) -> Pairs:
    """A product; then whole linears, in one layout and in two, have the bits of a float32 copy of the weight."""
    pairs = []
    for kind in KINDS:
        for back in (True, False):
            narrow, copy = (Lora.of(size, (size, LANES), back, kind) for _ in range(2))
            copy.matrix.set(kind=0, weight=to_panels(copy.weight))
            if back:
                copy.matrix.set(back=to_panels(copy.weight.T))
            for mine, theirs in zip(both_ways(narrow), both_ways(copy), strict=True):
                assert numpy.array_equal(mine, theirs)
        x, weight, out = narrow.x, narrow.matrix["weight"], numpy.zeros_like(narrow.grad)
        panels, length, strides = len(weight), x.shape[1], (x.strides[0], out.strides[0])
        operands = x.ctypes.data, strides[0], weight.ctypes.data, length, panels, out.ctypes.data, strides[1]
        linear.frozen_product(int(kind), len(x), *operands, 0, 0, narrow.scratch)
        pairs.append((out, wide(x) @ wide(narrow.weight).T))
    return pairs


def _passes(size: int, kind: int) -> tuple[Record, Record, Floats]:
    """Arguments of a pass over `size` rows, the matrix, and its weight [OUTS, INS] as it is stored."""
    random = numpy.random.default_rng(size)
    weight = stored(normal(random, OUTS, INS), kind)
    matrix = Record(TRAIN_MATRIX, kind=kind, weight=to_panels(weight), bias=normal(random, OUTS), ins=INS, outs=OUTS)
    scratch = numpy.zeros(LANES * max(HEAD_OUTPUTS, TILE_PANELS * INS), numpy.float32)
    args = Record(
        TRAIN_STEP_ARGS,
        head_rows=size,
        head_input=normal(random, size, INS),
        logits=normal(random, size, OUTS),
        scratch=scratch,
    )
    return args, matrix, weight


@reference(head.head_logits)
def head_logits_case(size: int) -> Pairs:
    pairs = []
    for kind in KINDS:
        args, matrix, weight = _passes(size, kind)
        expected = wide(args["head_input"]) @ wide(weight).T + matrix["bias"]
        head.head_logits(args.one, counter(), 2, matrix.one, args["scratch"].ctypes.data)
        pairs.append((args["logits"], expected))
    return pairs


@reference(head.head_back)
def head_back_case(size: int) -> Pairs:
    """With the bits of a float32 copy of the weight."""
    pairs = []
    for kind in KINDS:
        args, matrix, weight = _passes(size, kind)
        head.head_back(args.one, counter(), matrix.one, args["scratch"].ctypes.data)
        got = args["head_input"].copy()
        pairs.append((got, wide(args["logits"]) @ wide(weight)))
        matrix.set(kind=0, weight=to_panels(wide(weight).astype(numpy.float32)))
        head.head_back(args.one, counter(), matrix.one, args["scratch"].ctypes.data)
        assert numpy.array_equal(got, args["head_input"])
    return pairs
