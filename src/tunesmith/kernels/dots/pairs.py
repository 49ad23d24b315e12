"""Rounded rows, and panels in pairs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from llvmlite import ir
from numba.core import cgutils

from tunesmith.kernels.compiler import compiled
from tunesmith.kernels.intrinsics import of_addresses
from tunesmith.kernels.vectors import (
    BYTE,
    F32,
    I32,
    I64,
    INTEGERS,
    LANES,
    at,
    load_numbers,
    no_inline,
    transposed,
)

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values

ROUNDED_BYTES = 2  # of a rounded number
PAIR_ROW_BYTES = 2 * LANES * ROUNDED_BYTES  # of a panel in pairs
NARROW_ROW_BYTES = LANES * ROUNDED_BYTES  # of a panel as it is stored

_WORDS, _PAIRS = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(ir.IntType(16), 2 * LANES)
_HALF_ROW = ir.VectorType(I32, LANES // 2)


def _round_row(builder: ir.IRBuilder, arguments: "Values") -> None:
    source, target = builder.inttoptr(arguments[0], F32.as_pointer()), builder.inttoptr(arguments[1], I64.as_pointer())
    target = builder.bitcast(target, ir.IntType(16).as_pointer())
    with cgutils.for_range(builder, builder.udiv(arguments[2], ir.Constant(I64, LANES)), intp=I64) as loop:
        place = builder.mul(loop.index, ir.Constant(I64, LANES))
        numbers = load_numbers(builder, builder.gep(source, [place]))
        words = builder.trunc(_rounded(builder, numbers), _WORDS)
        builder.store(words, builder.bitcast(builder.gep(target, [place]), _WORDS.as_pointer()), align=2)


def _rounded(builder: ir.IRBuilder, numbers: ir.Value) -> ir.Value:
    """The first halves of 16 numbers as integers, rounded to the nearest, to the even one of two; NaN stays NaN."""
    bits = builder.bitcast(numbers, INTEGERS)
    odd = builder.and_(builder.lshr(bits, _integers(16)), _integers(1))
    nearest = builder.lshr(builder.add(bits, builder.add(odd, _integers(0x7FFF))), _integers(16))
    quiet = builder.or_(builder.lshr(bits, _integers(16)), _integers(0x40))
    return builder.select(builder.fcmp_unordered("uno", numbers, numbers), quiet, nearest)


def _integers(value: int) -> ir.Value:
    return ir.Constant(INTEGERS, [value] * LANES)


round_row = cast(Callable[[int, int, int], None], of_addresses(3, _round_row))
"""Rounds float32 numbers to bfloat16: (source, target, their number, a multiple of 16)."""


@compiled
def round_rows(source: int, stride: int, target: int, length: int, first: int, last: int) -> None:
    """Rounds the rows from `first` to `last` of a matrix to bfloat16.

    Those of the source are `stride` bytes apart; the target is [rows, length].
    """
    for row in range(first, last):
        round_row(source + row * stride, target + row * length * ROUNDED_BYTES, length)


def _pair_rows(builder: ir.IRBuilder, arguments: "Values") -> None:
    source, target = (builder.inttoptr(place, BYTE.as_pointer()) for place in arguments[:2])
    lanes = [lane for pair in zip(range(LANES), range(LANES, 2 * LANES), strict=True) for lane in pair]
    mask = ir.Constant(ir.VectorType(I32, 2 * LANES), lanes)
    with cgutils.for_range(builder, arguments[2], intp=I64) as loop:
        place = builder.mul(loop.index, ir.Constant(I64, PAIR_ROW_BYTES))
        here, there = (builder.bitcast(builder.gep(base, [place]), _PAIRS.as_pointer()) for base in (source, target))
        rows = builder.load(here, align=2)
        paired = builder.shuffle_vector(rows, ir.Constant(_PAIRS, ir.Undefined), mask)
        builder.store(paired, there, align=2)


pair_rows = cast(Callable[[int, int, int], None], of_addresses(3, _pair_rows))
"""Puts a panel [length, 16] into pairs: (panel, target, length / 2)."""


def _pair_square(builder: ir.IRBuilder, arguments: "Values") -> None:
    sources, target = arguments[:2], builder.inttoptr(arguments[2], BYTE.as_pointer())
    rows, joined = [], ir.Constant(INTEGERS, [*range(LANES)])
    for row in range(LANES):
        offset = ir.Constant(I64, row * NARROW_ROW_BYTES)
        places = (builder.inttoptr(builder.add(source, offset), _HALF_ROW.as_pointer()) for source in sources)
        halves = [builder.load(place, align=2) for place in places]
        rows.append(builder.shuffle_vector(*halves, joined))
    for index, pair in enumerate(transposed(builder, rows)):
        builder.store(
            pair, builder.bitcast(at(builder, target, index * PAIR_ROW_BYTES), INTEGERS.as_pointer()), align=2
        )


_pair_square_of = cast(Callable[[int, int, int], None], of_addresses(3, _pair_square))
"""Two squares of 16 inputs and 16 outputs, transposed into 16 pairs of outputs: (one, the next outputs', target)."""


@compiled
def pair_transposed(weight: int, panel_stride: int, panels: int, square: int, target: int) -> None:
    """Puts 16 inputs of each panel into pairs of outputs [8 * panels, 16, 2].

    Panels are an even number, and begin `panel_stride` bytes apart. `square`: which 16.
    """
    no_inline()
    here = weight + square * LANES * NARROW_ROW_BYTES
    for panel in range(0, panels, 2):
        first = here + panel * panel_stride
        _pair_square_of(first, first + panel_stride, target + panel * LANES // 2 * PAIR_ROW_BYTES)
