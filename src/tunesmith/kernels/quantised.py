"""Products of any number of rows with a matrix in panels of blocks.

A few rows, which is what decoding has, read the blocks, four of them at a time; for more a panel is written out in
float32 once, in memory of the thread, and read by all of them. Both give the same bits. Of 8 and 6 bits each weight is
made in float32, and a product has the bits of one with such weights; of 4 bits a sub-block of 32 inputs is summed
before it is scaled (`int4_tiles`), so there the order of the additions is another one.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from tunesmith.kernels.blocks import SUBBLOCK_INPUTS, block_tile
from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.int4_tiles import UNPACKED_ROWS, input_sums, int4_tile, unpack_four_bits
from tunesmith.kernels.multiply import MAX_TILE_ROWS, TILE_PANELS, multiply, tile_panels, tile_subblocks
from tunesmith.kernels.tiles import TileFunction
from tunesmith.kernels.vectors import FLOAT_BYTES, PANEL_ROW_BYTES, QUANTISED, Number, no_inline
from tunesmith.kernels.widths import panel_bytes, widen

FEW_ROWS = 4  # of a tile that makes weights in registers
PACKED_ROWS = 12  # up to which making them for each such tile again takes less time than writing them out
SUBBLOCK = SUBBLOCK_INPUTS[Number.INT4]
_Rows: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int, int], None]
_Few: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int, int, int], None]


def _rows(whole: TileFunction, single: TileFunction, most: int) -> _Rows:
    """A product of exactly so many rows with any number of panels, by tiles of `most` panels and of one."""

    @compiled
    def product(
        x: int,
        xs: int,
        sums: int,
        w: int,
        ws: int,
        of_row: int,
        length: int,
        panels: int,
        out: int,
        outs: int,
        add: int,
        adds: int,
    ) -> None:
        no_inline()
        none, panel = number(0), number(0)
        while panel < panels:
            column, here = panel * PANEL_ROW_BYTES, w + panel * ws
            addend = add + column if add else none
            if panels - panel >= most:
                whole(x, xs, sums, here, ws, of_row, length, out + column, outs, addend, adds)
                panel += most
            else:
                single(x, xs, sums, here, ws, of_row, length, out + column, outs, addend, adds)
                panel += 1

    return product


def _few(tile: Callable[[int, int], TileFunction], most: Callable[[int], int]) -> _Few:
    """A product of at most PACKED_ROWS rows with panels in one format, by tiles of `most(rows)` panels.

    `sums`, and `of_row` bytes for each row: of 4 bits those of x's sub-blocks, which others do without.
    """
    one, two, three, four = (
        _rows(tile(rows, most(rows)), tile(rows, 1), most(rows)) for rows in range(1, FEW_ROWS + 1)
    )

    @compiled
    def few(
        rows: int,
        x: int,
        xs: int,
        sums: int,
        w: int,
        ws: int,
        of_row: int,
        length: int,
        panels: int,
        out: int,
        outs: int,
        add: int,
        adds: int,
    ) -> None:
        no_inline()
        if rows == 1:
            one(x, xs, sums, w, ws, of_row, length, panels, out, outs, add, adds)
        elif rows == 2:
            two(x, xs, sums, w, ws, of_row, length, panels, out, outs, add, adds)
        elif rows == 3:
            three(x, xs, sums, w, ws, of_row, length, panels, out, outs, add, adds)
        elif rows == 4:
            four(x, xs, sums, w, ws, of_row, length, panels, out, outs, add, adds)

    @compiled
    def product(
        rows: int,
        x: int,
        xs: int,
        sums: int,
        w: int,
        ws: int,
        of_row: int,
        length: int,
        panels: int,
        out: int,
        outs: int,
        add: int,
        adds: int,
    ) -> None:
        if rows <= FEW_ROWS:
            few(rows, x, xs, sums, w, ws, of_row, length, panels, out, outs, add, adds)
            return
        for panel in range(panels):  # which the second four read from a cache
            for row in range(0, rows, FEW_ROWS):
                column, count = panel * PANEL_ROW_BYTES, min(FEW_ROWS, rows - row)
                here, there = x + row * xs, out + row * outs + column
                addend = add + row * adds + column if add else number(0)
                few(
                    count,
                    here,
                    xs,
                    sums + row * of_row,
                    w + panel * ws,
                    ws,
                    of_row,
                    length,
                    number(1),
                    there,
                    outs,
                    addend,
                    adds,
                )

    return product


def _packed_tile(rows: int, panels: int) -> TileFunction:
    return int4_tile(rows, panels, packed=True, together=tile_subblocks(rows))


_few_int8, _few_int6 = (_few(partial(block_tile, number=kind), tile_panels) for kind in (Number.INT8, Number.INT6))
# One panel lies in memory as one stream. Sums of sub-blocks keep the adders busy, where others need more panels.
_few_int4 = _few(_packed_tile, lambda rows: 1)


def scratch_bytes(length: int, rows: int) -> int:
    """What `multiply_frozen` needs for so many rows."""
    subblocks = -(-length // SUBBLOCK)
    wide = length * TILE_PANELS * PANEL_ROW_BYTES
    unpacked = max(UNPACKED_ROWS * PANEL_ROW_BYTES, PACKED_ROWS * SUBBLOCK * FLOAT_BYTES)
    return max(wide, subblocks * (unpacked + rows * FLOAT_BYTES) + PANEL_ROW_BYTES)


_sums, _sums_and_scaled = input_sums(scaled=False), input_sums(scaled=True)
_unpacked_one, _unpacked_two, _unpacked_four = (int4_tile(rows, 1, packed=False) for rows in (1, 2, 4))
_unpacked_most = int4_tile(MAX_TILE_ROWS, 1, packed=False)


@compiled
def _unpacked_panel(
    rows: int, x: int, xs: int, sums: int, w: int, length: int, out: int, outs: int, add: int, adds: int
) -> None:
    """The product of all rows with one panel of `unpack_four_bits`."""
    no_inline()
    none, row, of_row = number(0), number(0), length // SUBBLOCK * FLOAT_BYTES
    while row < rows:
        left, here, there, sum_of = rows - row, x + row * xs, out + row * outs, sums + row * of_row
        addend = add + row * adds if add else none
        if left >= MAX_TILE_ROWS:
            _unpacked_most(here, xs, sum_of, w, none, of_row, length, there, outs, addend, adds)
            row += MAX_TILE_ROWS
        elif left >= 4:
            _unpacked_four(here, xs, sum_of, w, none, of_row, length, there, outs, addend, adds)
            row += 4
        elif left >= 2:
            _unpacked_two(here, xs, sum_of, w, none, of_row, length, there, outs, addend, adds)
            row += 2
        else:
            _unpacked_one(here, xs, sum_of, w, none, of_row, length, there, outs, addend, adds)
            row += 1


@compiled
def _int4(
    rows: int,
    x: int,
    xs: int,
    w: int,
    ws: int,
    length: int,
    panels: int,
    out: int,
    outs: int,
    add: int,
    adds: int,
    scratch: int,
) -> None:
    """`scratch`: what is made of the rows or of a panel, then the sums of x's sub-blocks."""
    no_inline()
    subblocks, stride = length // SUBBLOCK, length * FLOAT_BYTES
    sums = scratch + subblocks * max(UNPACKED_ROWS * PANEL_ROW_BYTES, PACKED_ROWS * SUBBLOCK * FLOAT_BYTES)
    few = rows <= PACKED_ROWS
    for row in range(rows):
        if few:
            _sums_and_scaled(x + row * xs, sums + row * subblocks * FLOAT_BYTES, scratch + row * stride, length)
        else:
            _sums(x + row * xs, sums + row * subblocks * FLOAT_BYTES, number(0), length)
    if few:
        _few_int4(rows, scratch, stride, sums, w, ws, subblocks * FLOAT_BYTES, length, panels, out, outs, add, adds)
    else:
        for panel in range(panels):
            column = panel * PANEL_ROW_BYTES
            unpack_four_bits(w + panel * ws, scratch, length)
            addend = add + column if add else number(0)
            _unpacked_panel(rows, x, xs, sums, scratch, length, out + column, outs, addend, adds)


@compiled
def multiply_frozen(
    kind: int,
    rows: int,
    x: int,
    x_stride: int,
    w: int,
    length: int,
    panels: int,
    out: int,
    out_stride: int,
    addend: int,
    addend_stride: int,
    scratch: int,
) -> None:
    """As `multiply`, for panels in any format that are side by side.

    `scratch`: memory of this thread, `scratch_bytes`.
    """
    stride, none = panel_bytes(kind, length), number(0)
    if kind < QUANTISED:
        multiply(kind, rows, x, x_stride, w, stride, length, panels, out, out_stride, addend, addend_stride)
    elif kind == Number.INT4:
        _int4(rows, x, x_stride, w, stride, length, panels, out, out_stride, addend, addend_stride, scratch)
    elif rows > PACKED_ROWS:
        wide, plain = length * PANEL_ROW_BYTES, number(Number.FLOAT32)
        for panel in range(0, panels, TILE_PANELS):
            count, column = min(TILE_PANELS, panels - panel), panel * PANEL_ROW_BYTES
            widen(kind, w + panel * stride, scratch, count * length)
            here, add = out + column, addend + column if addend else 0
            multiply(plain, rows, x, x_stride, scratch, wide, length, count, here, out_stride, add, addend_stride)
    elif kind == Number.INT8:
        _few_int8(rows, x, x_stride, none, w, stride, none, length, panels, out, out_stride, addend, addend_stride)
    else:
        _few_int6(rows, x, x_stride, none, w, stride, none, length, panels, out, out_stride, addend, addend_stride)
