"""Weights rounded to blocks of 8 and of 4 bits, in panels.

INT8 rounds as GGUF's Q8_0 does: weights that came from such blocks give the same blocks again. INT4 has the structure
of Q4_K: sub-blocks of 32 inputs between a least and a largest value in 15 steps, whose scales are rounded to 6 bits. A
weight that is not finite makes its block not a number: a broken model must not answer like a working one.

What is not covered: the search for better scales that llama.cpp makes for Q4_K.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from llvmlite import ir
from numba.core import cgutils

from tunesmith.kernels.blocks import BLOCK_INPUTS, BLOCK_SUBBLOCKS, GROUP, HEADER_BYTES, SQUARE_BYTES, SUBBLOCK_INPUTS
from tunesmith.kernels.compiler import compiled, entry
from tunesmith.kernels.intrinsics import of_addresses
from tunesmith.kernels.records import Records, record
from tunesmith.kernels.vectors import (
    BYTE,
    BYTES,
    FLOATS,
    HALVES,
    HAS_HALF,
    I64,
    INTEGERS,
    LANES,
    PANEL_ROW_BYTES,
    Number,
    constant,
    load_numbers,
    transposer,
)
from tunesmith.kernels.widths import number_bytes, panel_bytes, widen

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values

LARGEST = 127  # of 8 bits
STEPS, SCALES = 15, 63  # of 4 bits, and of 6
SCRATCH_BYTES = BLOCK_INPUTS[Number.INT4] * PANEL_ROW_BYTES


class RoundArgs(Protocol):
    """Outputs [16 * panels, inputs] of a matrix, and their panels of blocks.

    Addresses and counts.
    """

    source: int
    source_kind: int  # not quantised
    panels: int
    inputs: int  # whole blocks
    target: int
    target_kind: int  # INT8 or INT4
    scratch: int  # SCRATCH_BYTES; for `read_panels`, which reads the target, room for its panels in float32


ROUND_ARGS = record(RoundArgs)


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Operations on vectors of 16 numbers, as LLVM code."""

    builder: ir.IRBuilder

    def at(self, place: ir.Value, offset: int | ir.Value) -> ir.Value:
        return self.builder.gep(place, [ir.Constant(I64, offset) if isinstance(offset, int) else offset])

    def load(self, place: ir.Value) -> ir.Value:
        return load_numbers(self.builder, place)

    def store(self, value: ir.Value, place: ir.Value) -> None:
        self.builder.store(value, self.builder.bitcast(place, value.type.as_pointer()), align=1)

    def call(self, name: str, *values: ir.Value) -> ir.Value:
        kind = ir.FunctionType(FLOATS, [FLOATS] * len(values))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.v{LANES}f32")
        return self.builder.call(function, values)

    def larger(self, one: ir.Value, other: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.fcmp_ordered(">", one, other), one, other)

    def clipped(self, value: ir.Value, least: float, most: float) -> ir.Value:
        """Not a number becomes the least."""
        low = self.larger(value, constant(least))
        return self.builder.select(self.builder.fcmp_ordered("<", low, constant(most)), low, constant(most))

    def inverse(self, value: ir.Value) -> ir.Value:
        """0 where the value is not above 0."""
        above = self.builder.fcmp_ordered(">", value, constant(0))
        return self.builder.select(above, self.builder.fdiv(constant(1), value), constant(0))

    def halves(self, value: ir.Value) -> ir.Value:
        return self.builder.fptrunc(value, HALVES)

    def bytes(self, value: ir.Value) -> ir.Value:
        return self.builder.trunc(self.builder.fptosi(value, INTEGERS), BYTES)


Round: TypeAlias = Callable[[_Vectors, ir.Value, ir.Value], None]


def _rounder(make: "Round") -> Callable[[int, int], None]:
    """Rounds a block: (float32 numbers [inputs, 16], target)."""

    def rounded(builder: ir.IRBuilder, arguments: "Values") -> None:
        if HAS_HALF:  # else it is never called
            make(_Vectors(builder), *(builder.inttoptr(place, BYTE.as_pointer()) for place in arguments))

    return cast(Callable[[int, int], None], of_addresses(2, rounded))


def _int8(vectors: _Vectors, source: ir.Value, target: ir.Value) -> None:
    builder = vectors.builder
    rows = [vectors.load(vectors.at(source, row * PANEL_ROW_BYTES)) for row in range(SUBBLOCK_INPUTS[Number.INT8])]
    largest = rounding_error = constant(0)
    for row in rows:
        largest = vectors.larger(vectors.call("fabs", row), largest)
        rounding_error = builder.fadd(rounding_error, builder.fmul(row, constant(0)))
    scale = builder.fadd(builder.fdiv(largest, constant(LARGEST)), rounding_error)
    vectors.store(vectors.halves(scale), target)
    inverse = vectors.inverse(scale)
    for index, row in enumerate(rows):
        rounded = vectors.clipped(_half_away(vectors, builder.fmul(row, inverse)), -LARGEST, LARGEST)
        vectors.store(vectors.bytes(rounded), vectors.at(target, HEADER_BYTES[Number.INT8] + index * LANES))


def _half_away(vectors: _Vectors, value: ir.Value) -> ir.Value:
    """The nearest whole number, halves away from zero, as C's roundf."""
    builder, size = vectors.builder, vectors.call("fabs", value)
    whole = vectors.call("floor", size)
    rest = builder.fsub(size, whole)
    up = vectors.call("floor", builder.fadd(rest, rest))
    return vectors.call("copysign", builder.fadd(whole, up), value)


def _int4(vectors: _Vectors, source: ir.Value, target: ir.Value) -> None:
    """The sub-blocks' least and largest values, the factors of both, then each sub-block."""
    builder, subblocks = vectors.builder, BLOCK_SUBBLOCKS[Number.INT4]
    spans = [_span(vectors, _subblock(vectors, source, ir.Constant(I64, subblock))) for subblock in range(subblocks)]
    factors = []
    for kind in range(2):
        largest = spans[0][kind]
        for span in spans[1:]:
            largest = vectors.larger(span[kind], largest)
        broken = largest
        for span in spans:
            broken = builder.fadd(broken, builder.fmul(span[kind], constant(0)))
        half = vectors.halves(builder.fdiv(broken, constant(SCALES)))
        vectors.store(half, vectors.at(target, 2 * LANES * kind))
        factors.append(builder.fpext(half, FLOATS))
    for subblock, span in enumerate(spans):
        scale, least = (
            vectors.clipped(vectors.call("rint", builder.fmul(value, vectors.inverse(factor))), 0, SCALES)
            for value, factor in zip(span, factors, strict=True)
        )
        vectors.store(vectors.bytes(scale), vectors.at(target, (4 + subblock) * LANES))
        vectors.store(vectors.bytes(least), vectors.at(target, (12 + subblock) * LANES))
        step, shift = builder.fmul(factors[0], scale), builder.fmul(factors[1], least)
        numbers = HEADER_BYTES[Number.INT4] + subblock * 2 * SQUARE_BYTES[Number.INT4]
        _fill(vectors, _subblock(vectors, source, ir.Constant(I64, subblock)), vectors.at(target, numbers), step, shift)


def _subblock(vectors: _Vectors, source: ir.Value, subblock: ir.Value) -> ir.Value:
    size = ir.Constant(I64, SUBBLOCK_INPUTS[Number.INT4] * PANEL_ROW_BYTES)
    return vectors.at(source, vectors.builder.mul(subblock, size))


def _span(vectors: _Vectors, source: ir.Value) -> tuple[ir.Value, ir.Value]:
    """A sub-block's scale, and how far its least value is below 0; not a number where a weight is not finite."""
    builder, zero = vectors.builder, constant(0)
    largest = smallest = broken = zero
    for row in range(SUBBLOCK_INPUTS[Number.INT4]):
        value = vectors.load(vectors.at(source, row * PANEL_ROW_BYTES))
        largest = value if row == 0 else vectors.larger(value, largest)
        smallest = vectors.larger(builder.fneg(value), smallest)
        broken = builder.fadd(broken, builder.fmul(value, zero))
    scale = builder.fdiv(vectors.larger(builder.fadd(largest, smallest), zero), constant(STEPS))
    return builder.fadd(scale, broken), smallest


def _fill(vectors: _Vectors, source: ir.Value, target: ir.Value, step: ir.Value, shift: ir.Value) -> None:
    """The numbers of a sub-block, eight in one."""
    builder, inverse = vectors.builder, vectors.inverse(step)
    for group in range(SUBBLOCK_INPUTS[Number.INT4] // GROUP):
        eight = ir.Constant(INTEGERS, [0] * LANES)
        for place in range(GROUP):
            value = vectors.load(vectors.at(source, (group * GROUP + place) * PANEL_ROW_BYTES))
            steps = vectors.call("rint", builder.fmul(builder.fadd(value, shift), inverse))
            bits = builder.fptosi(vectors.clipped(steps, 0, STEPS), INTEGERS)
            eight = builder.or_(eight, builder.shl(bits, ir.Constant(INTEGERS, [4 * place] * LANES)))
        vectors.store(eight, vectors.at(target, group * 4 * LANES))


_round_int8, _round_int4 = _rounder(_int8), _rounder(_int4)
_float32, _float16, _bfloat16 = (transposer(kind) for kind in (Number.FLOAT32, Number.FLOAT16, Number.BFLOAT16))
_INT8_INPUTS, _INT4_INPUTS = BLOCK_INPUTS[Number.INT8], BLOCK_INPUTS[Number.INT4]
_INT8, _F16, _BF16 = int(Number.INT8), int(Number.FLOAT16), int(Number.BFLOAT16)


@compiled
def _widen(args: RoundArgs, source: int, inputs: int) -> None:
    """Inputs of 16 outputs, transposed: scratch [inputs, 16]."""
    size = number_bytes(args.source_kind)
    stride = args.inputs * size
    for first in range(0, inputs, LANES):
        here, there = source + first * size, args.scratch + first * PANEL_ROW_BYTES
        if args.source_kind == _BF16:
            _bfloat16(here, stride, there)
        elif args.source_kind == _F16:
            _float16(here, stride, there)
        else:
            _float32(here, stride, there)


@entry
def round_panels(step: Records) -> None:
    """Rounds the outputs of step[0], a `RoundArgs`."""
    args = step[0]
    inputs = _INT8_INPUTS if args.target_kind == _INT8 else _INT4_INPUTS
    size = number_bytes(args.source_kind)
    block_bytes = panel_bytes(args.target_kind, inputs)
    for panel in range(args.panels):
        source = args.source + panel * LANES * args.inputs * size
        target = args.target + panel * panel_bytes(args.target_kind, args.inputs)
        for block in range(args.inputs // inputs):
            _widen(args, source + block * inputs * size, inputs)
            there = target + block * block_bytes
            if args.target_kind == _INT8:
                _round_int8(args.scratch, there)
            else:
                _round_int4(args.scratch, there)


@entry
def read_panels(step: Records) -> None:
    """The panels of step[0], a `RoundArgs`, in float32: scratch [panels, inputs, 16]."""
    args = step[0]
    stride, wide = panel_bytes(args.target_kind, args.inputs), args.inputs * PANEL_ROW_BYTES
    for panel in range(args.panels):
        widen(args.target_kind, args.target + panel * stride, args.scratch + panel * wide, args.inputs)
