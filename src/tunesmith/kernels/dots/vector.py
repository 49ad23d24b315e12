"""Dot products by AVX512-BF16, or with the same bits by what any processor has."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

from llvmlite import ir
from numba.core import cgutils

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.dots.unit import HAS_VECTOR
from tunesmith.kernels.intrinsics import of_addresses
from tunesmith.kernels.tiles import sums_of, write_sums
from tunesmith.kernels.vectors import (
    FLOATS,
    I32,
    I64,
    INTEGERS,
    LANES,
    at_row,
    broadcast,
    multiply_add,
    no_inline,
)

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values


class _BFloat(ir.Type):  # type: ignore[misc]  # llvmlite has no name for it
    null = "0.0"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)

    def __str__(self) -> str:
        return "bfloat"


_BFLOATS = ir.VectorType(_BFloat(), 2 * LANES)


def dot_pairs(builder: ir.IRBuilder, one: ir.Value, other: ir.Value, addend: ir.Value) -> ir.Value:
    """The dot products of 16 pairs each, as words of 32 bits, plus 16 float32 numbers."""
    if HAS_VECTOR:
        name, kinds = "llvm.x86.avx512bf16.dpbf16ps.512", [FLOATS, _BFLOATS, _BFLOATS]
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(FLOATS, kinds), name)
        return builder.call(function, [addend, *(builder.bitcast(pairs, _BFLOATS) for pairs in (one, other))])
    for half in (_second_of_pairs, _first_of_pairs):
        addend = multiply_add(builder, half(builder, one), half(builder, other), addend)
    return addend


def _first_of_pairs(builder: ir.IRBuilder, pairs: ir.Value) -> ir.Value:
    return builder.bitcast(builder.shl(pairs, ir.Constant(INTEGERS, [16] * LANES)), FLOATS)


def _second_of_pairs(builder: ir.IRBuilder, pairs: ir.Value) -> ir.Value:
    high = ir.Constant(INTEGERS, [ir.Constant(I32, 0xFFFF0000)] * LANES)
    return builder.bitcast(builder.and_(pairs, high), FLOATS)


_Tile: TypeAlias = Callable[[int, int, int, int, int, int, int, int], None]


def _dot_tile(rows: int) -> _Tile:
    """The product of exactly so many rounded rows with a panel in pairs.

    Called with (x, x_stride, w, pairs, out, out_stride, addend, addend_stride); `addend` 0: nothing is added.
    """

    def product(builder: ir.IRBuilder, arguments: "Values") -> None:
        x, x_stride, w, pairs, *result = arguments
        sums, weights = sums_of(builder, rows, 1), builder.inttoptr(w, INTEGERS.as_pointer())
        x_rows = [at_row(builder, x, x_stride, row, I32) for row in range(rows)]
        with cgutils.for_range(builder, pairs, intp=I64) as loop:
            weight = builder.load(builder.gep(weights, [loop.index]), align=2)
            for row, x_row in enumerate(x_rows):
                word = builder.load(builder.gep(x_row, [loop.index]), align=2)
                total = sums[row, 0]
                builder.store(dot_pairs(builder, weight, broadcast(builder, word), builder.load(total)), total)
        write_sums(builder, sums, *result)

    return cast(_Tile, of_addresses(8, product))


_eight, _four, _one = (_dot_tile(rows) for rows in (8, 4, 1))


@compiled
def vector_panel(
    rows: int, x: int, stride: int, w: int, pairs: int, out: int, outs: int, addend: int, adds: int
) -> None:
    """The product of all rows with one panel in pairs."""
    no_inline()
    row = number(0)
    while row < rows:
        here, there, add = x + row * stride, out + row * outs, addend + row * adds if addend else number(0)
        if rows - row >= 8:
            _eight(here, stride, w, pairs, there, outs, add, adds)
            row += 8
        elif rows - row >= 4:
            _four(here, stride, w, pairs, there, outs, add, adds)
            row += 4
        else:
            _one(here, stride, w, pairs, there, outs, add, adds)
            row += 1
