"""Products of any number of rows with a matrix in panels of blocks.

A few rows, which is what decoding has, make the weights in registers, as `multiply` widens numbers of 16 bits. For more
rows a panel is made in float32 once, in memory of the thread, and read by all of them. Both give the same bits: those
of a product with the weights in float32.
"""

from collections.abc import Callable
from typing import TypeAlias

from tunesmith.kernels.blocks import block_tile
from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.multiply import TILE_PANELS, multiply, tile_panels
from tunesmith.kernels.vectors import PANEL_ROW_BYTES, QUANTISED, Number, no_inline
from tunesmith.kernels.widths import panel_bytes, widen

FEW_ROWS = 4  # for which weights are made in registers
_Few: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int], None]
_Rows: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int], None]


def _rows(rows: int, kind: Number) -> _Rows:
    """A product of exactly so many rows with any number of panels in one format."""
    most = tile_panels(rows)
    whole, single = block_tile(rows, most, kind), block_tile(rows, 1, kind)

    @compiled
    def product(
        x: int, xs: int, w: int, ws: int, length: int, panels: int, out: int, outs: int, add: int, adds: int
    ) -> None:
        no_inline()
        none, panel = number(0), number(0)
        while panel < panels:
            column, here = panel * PANEL_ROW_BYTES, w + panel * ws
            addend = add + column if add else none
            if panels - panel >= most:
                whole(x, xs, none, here, ws, none, length, out + column, outs, addend, adds)
                panel += most
            else:
                single(x, xs, none, here, ws, none, length, out + column, outs, addend, adds)
                panel += 1

    return product


def _few(kind: Number) -> _Few:
    """A product of at most FEW_ROWS rows with panels in one format."""
    one, two, three, four = (_rows(rows, kind) for rows in range(1, FEW_ROWS + 1))

    @compiled
    def product(
        rows: int, x: int, xs: int, w: int, ws: int, length: int, panels: int, out: int, outs: int, add: int, adds: int
    ) -> None:
        if rows == 1:
            one(x, xs, w, ws, length, panels, out, outs, add, adds)
        elif rows == 2:
            two(x, xs, w, ws, length, panels, out, outs, add, adds)
        elif rows == 3:
            three(x, xs, w, ws, length, panels, out, outs, add, adds)
        elif rows == 4:
            four(x, xs, w, ws, length, panels, out, outs, add, adds)

    return product


_int8, _int4, _int6 = _few(Number.INT8), _few(Number.INT4), _few(Number.INT6)


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

    `scratch` [TILE_PANELS, length, 16]: memory of this thread, for panels of blocks.
    """
    stride = panel_bytes(kind, length)
    if kind < QUANTISED:
        multiply(kind, rows, x, x_stride, w, stride, length, panels, out, out_stride, addend, addend_stride)
    elif rows > FEW_ROWS:
        wide, plain = length * PANEL_ROW_BYTES, number(Number.FLOAT32)
        for panel in range(0, panels, TILE_PANELS):
            count, column = min(TILE_PANELS, panels - panel), panel * PANEL_ROW_BYTES
            widen(kind, w + panel * stride, scratch, count * length)
            here, add = out + column, addend + column if addend else 0
            multiply(plain, rows, x, x_stride, scratch, wide, length, count, here, out_stride, add, addend_stride)
    elif kind == Number.INT8:
        _int8(rows, x, x_stride, w, stride, length, panels, out, out_stride, addend, addend_stride)
    elif kind == Number.INT4:
        _int4(rows, x, x_stride, w, stride, length, panels, out, out_stride, addend, addend_stride)
    else:
        _int6(rows, x, x_stride, w, stride, length, panels, out, out_stride, addend, addend_stride)
