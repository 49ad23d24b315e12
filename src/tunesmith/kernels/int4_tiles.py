"""Tiles of products with blocks of 4 bits.

A weight is step * q - shift, and both are the same for the 32 inputs of a sub-block, so a sum over a sub-block is
step * sum(q * x) - shift * sum(x): one multiplication and addition a weight. Sums of a sub-block run in order, and so
do the sub-blocks'; `rows`, panels and where the numbers come from change no bit:

    packed     of blocks, for a few rows: x is scaled (`input_sums`), since bits are not moved to the right
    unpacked   of `unpack_four_bits`, for many: of each sub-block 34 rows of 16 numbers: steps, shifts below 0, 32 of q
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias, cast

from llvmlite import ir
from numba.core import cgutils

from tunesmith.kernels.blocks import (
    GROUP,
    SUBBLOCK_INPUTS,
    eight_numbers,
    prefetch_header,
    prefetch_numbers,
    subblock_of,
)
from tunesmith.kernels.intrinsics import of_addresses
from tunesmith.kernels.tiles import sums_of, write_sums
from tunesmith.kernels.vectors import (
    BYTE,
    F32,
    FLOATS,
    HAS_HALF,
    I32,
    I64,
    INTEGERS,
    LANES,
    PANEL_ROW_BYTES,
    Number,
    at,
    at_row,
    broadcast,
    constant,
    load_numbers,
    multiply_add,
    store_numbers,
)

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values
    from tunesmith.kernels.tiles import Sums, TileFunction

    _Subblock: TypeAlias = tuple[ir.Value, ir.Value, Callable[[ir.Value], Iterator[ir.Value]]]

SUBBLOCK = SUBBLOCK_INPUTS[Number.INT4]
SCALES = [*(16.0**-index for index in range(GROUP - 1)), 1.0]  # of x, by the place in a group
UNPACKED_ROWS = SUBBLOCK + 2  # of a sub-block: its steps, its shifts, and the numbers


def int4_tile(rows: int, panels: int, *, packed: bool, together: int = 1) -> "TileFunction":
    """The product of `rows` rows with `panels` panels, for compiled code.

    Called with (x, x_stride, sums, w, panel_stride, sums_stride, length, out, out_stride, addend, addend_stride), where
    `sums` [rows, length / 32] are those of x's sub-blocks; the rest as for `tiles.product_tile`. So many sub-blocks of
    a block are summed `together`, which keeps the adders busy with few rows and changes no bit.
    """

    def product(builder: ir.IRBuilder, arguments: "Values") -> None:
        if HAS_HALF:  # else it is never called
            _tile(builder, arguments, (rows, panels, together), _packed if packed else _unpacked)

    return cast("TileFunction", of_addresses(11, product))


def _tile(
    builder: ir.IRBuilder,
    arguments: "Values",
    sizes: tuple[int, int, int],
    read: "Callable[[ir.IRBuilder, ir.Value, ir.Value], _Subblock]",
) -> None:
    x, x_stride, sums, w, panel_stride, sums_stride, length, *result = arguments
    rows, panels, together = sizes
    totals = sums_of(builder, rows, panels)
    sum_rows = [at_row(builder, sums, sums_stride, row, F32) for row in range(rows)]
    x_rows = [at_row(builder, x, x_stride, row, F32) for row in range(rows)]
    w_panels = [at_row(builder, w, panel_stride, panel, BYTE) for panel in range(panels)]
    partial_sums = [{place: cgutils.alloca_once(builder, FLOATS) for place in totals} for _ in range(together)]
    with cgutils.for_range(builder, builder.udiv(length, ir.Constant(I64, SUBBLOCK * together)), intp=I64) as loop:
        first = builder.mul(loop.index, ir.Constant(I64, together))
        indices = [builder.add(first, ir.Constant(I64, which)) for which in range(together)]
        subblocks = [[read(builder, panel, index) for panel in w_panels] for index in indices]
        inputs = builder.mul(first, ir.Constant(I64, SUBBLOCK))
        _add_numbers(builder, subblocks, [builder.gep(row, [inputs]) for row in x_rows], partial_sums)
        for index, of_index, partial in zip(indices, subblocks, partial_sums, strict=True):
            for (row, panel), total in totals.items():
                step, shift, _ = of_index[panel]
                sum_of = broadcast(builder, builder.load(builder.gep(sum_rows[row], [index]), align=4))
                scaled = multiply_add(builder, step, builder.load(partial[row, panel]), builder.load(total))
                builder.store(multiply_add(builder, shift, sum_of, scaled), total)
    write_sums(builder, totals, *result)


def _add_numbers(
    builder: ir.IRBuilder,
    subblocks: "list[list[_Subblock]]",
    x_rows: "Values",
    partial_sums: "list[Sums]",
) -> None:
    """The sums over each of the sub-blocks, which lie one after another, of its numbers with the rows' inputs."""
    for partial in partial_sums:
        for total in partial.values():
            builder.store(constant(0.0), total)
    with cgutils.for_range(builder, ir.Constant(I64, SUBBLOCK // GROUP), intp=I64) as group:
        begin = builder.mul(group.index, ir.Constant(I64, GROUP))
        numbers = [[read(group.index) for _, _, read in of_index] for of_index in subblocks]
        for index in range(GROUP):
            for which, (of_index, partial) in enumerate(zip(numbers, partial_sums, strict=True)):
                values = [next(of_panel) for of_panel in of_index]
                place = builder.add(begin, ir.Constant(I64, which * SUBBLOCK + index))
                for row, x_row in enumerate(x_rows):
                    factor = broadcast(builder, builder.load(builder.gep(x_row, [place]), align=4))
                    for panel, value in enumerate(values):
                        total = partial[row, panel]
                        builder.store(multiply_add(builder, value, factor, builder.load(total)), total)


def input_sums(*, scaled: bool) -> Callable[[int, int, int, int], None]:
    """Makes the sums of the sub-blocks of one row.

    With `scaled` also the row as packed tiles read it. Called with (x, sums, the scaled row or 0, length).
    """

    def made(builder: ir.IRBuilder, arguments: "Values") -> None:
        source, target, row = (builder.inttoptr(place, F32.as_pointer()) for place in arguments[:3])
        factors = ir.Constant(FLOATS, [*SCALES, *SCALES])
        with cgutils.for_range(builder, builder.udiv(arguments[3], ir.Constant(I64, SUBBLOCK)), intp=I64) as loop:
            first = builder.mul(loop.index, ir.Constant(I64, SUBBLOCK))
            places = [builder.add(first, ir.Constant(I64, half)) for half in (0, LANES)]
            halves = [load_numbers(builder, builder.gep(source, [place])) for place in places]
            builder.store(_total(builder, builder.fadd(*halves)), builder.gep(target, [loop.index]))
            for place, half in zip(places, halves, strict=True) if scaled else ():
                store_numbers(builder, builder.fmul(half, factors), builder.gep(row, [place]))

    return cast(Callable[[int, int, int, int], None], of_addresses(4, made))


def _total(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The sum of the 16 numbers, of which neighbours further and further apart are added."""
    width = LANES // 2
    while width:
        lanes = ir.Constant(INTEGERS, [(lane + width) % LANES for lane in range(LANES)])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, ir.Constant(FLOATS, ir.Undefined), lanes))
        width //= 2
    return builder.extract_element(vector, ir.Constant(I32, 0))


def _unpack(builder: ir.IRBuilder, arguments: "Values") -> None:
    if not HAS_HALF:  # then it is never called
        return
    source, there = (builder.inttoptr(place, BYTE.as_pointer()) for place in arguments[:2])
    with cgutils.for_range(builder, builder.udiv(arguments[2], ir.Constant(I64, SUBBLOCK)), intp=I64) as loop:
        target = builder.gep(there, [builder.mul(loop.index, ir.Constant(I64, UNPACKED_ROWS * PANEL_ROW_BYTES))])
        step, shift, numbers = _packed(builder, source, loop.index)
        values = [value for group in range(SUBBLOCK // GROUP) for value in numbers(ir.Constant(I64, group))]
        moved = [builder.fmul(value, constant(SCALES[index % GROUP])) for index, value in enumerate(values)]
        for index, row in enumerate((step, shift, *moved)):
            store_numbers(builder, row, at(builder, target, index * PANEL_ROW_BYTES))


unpack_four_bits = cast(Callable[[int, int, int], None], of_addresses(3, _unpack))
"""Writes a panel of blocks as unpacked tiles read it: (panel, target, length)."""


def _packed(builder: ir.IRBuilder, panel: ir.Value, index: ir.Value) -> "_Subblock":
    subblock = subblock_of(builder, Number.INT4, panel, index)
    prefetch_header(builder, subblock)

    def numbers(group: ir.Value) -> Iterator[ir.Value]:
        """Of the input k of the group q * 16^k, but the last one's."""
        here = builder.gep(subblock.numbers, [builder.mul(group, ir.Constant(I64, 4 * LANES))])
        prefetch_numbers(builder, here)
        yield from eight_numbers(builder, here)

    return subblock.scale, cast(ir.Value, subblock.least), numbers


def _unpacked(builder: ir.IRBuilder, panel: ir.Value, index: ir.Value) -> "_Subblock":
    size = UNPACKED_ROWS * PANEL_ROW_BYTES
    rows = [
        builder.gep(panel, [builder.add(builder.mul(index, ir.Constant(I64, size)), ir.Constant(I64, first))])
        for first in (0, PANEL_ROW_BYTES, 2 * PANEL_ROW_BYTES)
    ]

    def numbers(group: ir.Value) -> Iterator[ir.Value]:
        here = builder.gep(rows[2], [builder.mul(group, ir.Constant(I64, GROUP * PANEL_ROW_BYTES))])
        for place in range(GROUP):
            yield load_numbers(builder, at(builder, here, place * PANEL_ROW_BYTES))

    return load_numbers(builder, rows[0]), load_numbers(builder, rows[1]), numbers
