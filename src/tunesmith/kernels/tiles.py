"""Tiles of a product, and copies of panels in float32, as LLVM code.

A tile keeps its sums in registers over the whole length, adding in order, so that each result has the same bits
whatever else is computed with it. What it is made of walks through the panels' weights: single numbers
(`stored_numbers`), or blocks (`blocks`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

from llvmlite import ir
from numba.core import cgutils

from tunesmith.kernels.intrinsics import of_addresses, prefetch_line
from tunesmith.kernels.vectors import (
    BYTE,
    F32,
    FLOAT_BYTES,
    I64,
    LANES,
    PANEL_ROW_BYTES,
    STORED_BYTES,
    Number,
    at_row,
    broadcast,
    constant,
    load_numbers,
    multiply_add,
    readable,
    store_numbers,
)

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values

    Emit: TypeAlias = Callable[[ir.Value, Values], None]
    Walk: TypeAlias = Callable[[ir.IRBuilder, Values, ir.Value, ir.Value | None, Emit], None]
    Sums: TypeAlias = dict[tuple[int, int], ir.Value]

PREFETCH_BYTES = 2048  # how far ahead a panel is prefetched: the hardware prefetches within a page only
TileFunction: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int], None]


def tile(rows: int, panels: int, number: Number = Number.FLOAT32, *, strided: bool = False) -> TileFunction:
    """A `product_tile` of panels of numbers that are stored one by one."""
    return product_tile(rows, panels, stored_numbers(readable(number)), strided=strided)


def product_tile(rows: int, panels: int, walk: "Walk", *, strided: bool = False) -> TileFunction:
    """The product of `rows` rows with `panels` panels, for compiled code.

    Called with (x, x_stride, x_step, w, panel_stride, w_step, length, out, out_stride, addend, addend_stride):
    addresses, and distances in bytes: from row to row, from panel to panel, and from one term of a sum to the next. The
    steps are used with `strided` only; without it x's rows are contiguous and `w` holds panels [length, 16]. `addend`
    0: nothing is added. `walk` emits the loop over the weights: it gets the panels' addresses, `length`, `w_step`
    (None where it is not used) and what to call with each input's place and the panels' weights of it, in order.
    """

    def product(builder: ir.IRBuilder, arguments: "Values") -> None:
        x, x_stride, x_step, w, panel_stride, w_step, length, *result = arguments
        if not strided:
            x_step = ir.Constant(I64, FLOAT_BYTES)
        sums = sums_of(builder, rows, panels)
        x_rows = [at_row(builder, x, x_stride, row, BYTE) for row in range(rows)]

        def add(place: ir.Value, weights: "Values") -> None:
            offset = builder.mul(place, x_step)
            for row, x_row in enumerate(x_rows):
                number = builder.load(builder.bitcast(builder.gep(x_row, [offset]), F32.as_pointer()), align=4)
                factor = broadcast(builder, number)
                for panel, weight in enumerate(weights):
                    total = sums[row, panel]
                    builder.store(multiply_add(builder, weight, factor, builder.load(total)), total)

        w_panels = [at_row(builder, w, panel_stride, panel, BYTE) for panel in range(panels)]
        walk(builder, w_panels, length, w_step if strided else None, add)
        write_sums(builder, sums, *result)

    return cast(TileFunction, of_addresses(11, product))


def sums_of(builder: ir.IRBuilder, rows: int, panels: int) -> "Sums":
    """A vector for each row and panel, of zeros."""
    places = [(row, panel) for row in range(rows) for panel in range(panels)]
    return {place: cgutils.alloca_once_value(builder, constant(0.0)) for place in places}


def write_sums(
    builder: ir.IRBuilder,
    sums: "Sums",
    out: ir.Value,
    out_stride: ir.Value,
    addend: ir.Value,
    addend_stride: ir.Value,
) -> None:
    """Writes the sums to the rows and panels of `out`.

    Those of `addend` are added unless it is 0.
    """
    with builder.if_then(builder.icmp_signed("!=", addend, ir.Constant(I64, 0))):
        for (row, panel), total in sums.items():
            other = at_row(builder, addend, addend_stride, row, F32, panel)
            builder.store(builder.fadd(builder.load(total), load_numbers(builder, other)), total)
    for (row, panel), total in sums.items():
        place = at_row(builder, out, out_stride, row, F32, panel)
        store_numbers(builder, builder.load(total), place)


def stored_numbers(number: Number) -> "Walk":
    """What walks through panels of numbers that are stored one by one."""

    def walk(builder: ir.IRBuilder, panels: "Values", length: ir.Value, w_step: ir.Value | None, emit: "Emit") -> None:
        size = LANES * STORED_BYTES[number]
        step = ir.Constant(I64, size) if w_step is None else w_step
        ahead = builder.mul(step, ir.Constant(I64, PREFETCH_BYTES // size))
        with cgutils.for_range(builder, length, intp=I64) as loop:
            offset, weights = builder.mul(loop.index, step), []
            for panel in panels:
                place = builder.gep(panel, [offset])
                prefetch_line(builder, builder.gep(place, [ahead]))
                weights.append(load_numbers(builder, place, number))
            emit(loop.index, weights)

    return walk


def widener(number: Number) -> Callable[[int, int, int], None]:
    """Copies rows of 16 numbers of a format, stored one by one, to float32."""
    return panel_widener(stored_numbers(readable(number)))


def panel_widener(walk: "Walk") -> Callable[[int, int, int], None]:
    """Copies rows of 16 numbers to float32.

    Called with (source, target, rows), both contiguous. `walk` as for `product_tile`.
    """

    def widened(builder: ir.IRBuilder, arguments: "Values") -> None:
        source, target, rows = arguments
        first, begin = (builder.inttoptr(place, BYTE.as_pointer()) for place in (source, target))

        def keep(place: ir.Value, weights: "Values") -> None:
            there = builder.gep(begin, [builder.mul(place, ir.Constant(I64, PANEL_ROW_BYTES))])
            store_numbers(builder, weights[0], there)

        walk(builder, [first], rows, None, keep)

    return cast(Callable[[int, int, int], None], of_addresses(3, widened))
