"""Products of rows with a matrix in panels: out = x @ w (+ addend).

A matrix [out, in] is kept in panels of 16 outputs, [out / 16, in, 16], so that the weights that 16 sums need next are
adjacent. Each weight that is read is used for as many rows as fit into registers; further rows follow while the panel
is in the nearest cache. Each sum runs over the whole length in order, so a row's result depends neither on the other
rows nor on which thread computes which panels.

Numba calls no function by its place in a table, so each number of rows and each format is a branch that names its tile.

`multiply_strided` takes operands as they are in memory, row by row or column by column: for what is not worth packing.
"""

from collections.abc import Callable
from typing import TypeAlias

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.tiles import TileFunction, tile
from tunesmith.kernels.vectors import PANEL_ROW_BYTES, Number, features, no_inline

Rows: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int, int, int], None]

_MANY_REGISTERS = "avx512f" in features()
MAX_TILE_ROWS = 8 if _MANY_REGISTERS else 6  # rows for which a weight is read once
# From so many rows on a narrow panel stays in the nearest cache, and 8 rows with one are a tenth faster than with two.
MANY_ROWS = 12
STRIDED_COUNTS = (1, 2, 4, MAX_TILE_ROWS)  # rows of a strided block: each takes a second of compiling


def tile_panels(rows: int) -> int:
    """How many panels a tile has.

    With few rows a single panel would leave the adders waiting for each other; with many, more do not fit into
    registers.
    """
    if _MANY_REGISTERS:
        return 4 if rows <= 4 else 2
    return (4, 2)[rows - 1] if rows <= 2 else 1


def tile_subblocks(rows: int) -> int:
    """How many sub-blocks of 4 bits a tile of one panel adds up beside each other."""
    if _MANY_REGISTERS:
        return 4 if rows <= 2 else 2
    return 2 if rows <= 2 else 1


def _rows(count: int, *, strided: bool, narrow: bool) -> Rows:
    """A function for exactly `count` rows and 4, 2 or 1 panels.

    With `narrow` the panels may be of 16 bits.
    """
    most = tile_panels(count)
    four, half_four, bfloat_four = _formats(count, 4, strided=strided, narrow=narrow) if most == 4 else _UNUSED
    two, half_two, bfloat_two = _formats(count, 2, strided=strided, narrow=narrow) if most >= 2 else _UNUSED
    one, half_one, bfloat_one = _formats(count, 1, strided=strided, narrow=narrow)

    @compiled
    def multiply(
        panels: int,
        kind: int,
        x: int,
        xs: int,
        x_step: int,
        w: int,
        ws: int,
        w_step: int,
        length: int,
        out: int,
        outs: int,
        add: int,
        adds: int,
    ) -> None:
        """As `tile`; `panels`: 1, 2 or 4, not more than `most`."""
        no_inline()
        if most == 4 and panels == 4:
            if narrow and kind == Number.FLOAT16:
                half_four(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
            elif narrow and kind == Number.BFLOAT16:
                bfloat_four(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
            else:
                four(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
        elif most >= 2 and panels == 2:
            if narrow and kind == Number.FLOAT16:
                half_two(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
            elif narrow and kind == Number.BFLOAT16:
                bfloat_two(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
            else:
                two(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
        elif narrow and kind == Number.FLOAT16:
            half_one(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
        elif narrow and kind == Number.BFLOAT16:
            bfloat_one(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
        else:
            one(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)

    return multiply


def _formats(rows: int, panels: int, *, strided: bool, narrow: bool) -> tuple[TileFunction, TileFunction, TileFunction]:
    """A tile for panels of each format; without `narrow` all are the one for float32."""
    plain = tile(rows, panels, strided=strided)
    if not narrow:
        return plain, plain, plain
    return plain, tile(rows, panels, Number.FLOAT16), tile(rows, panels, Number.BFLOAT16)


_UNUSED = _formats(1, 1, strided=False, narrow=False)
TILE_PANELS = tile_panels(MAX_TILE_ROWS)  # panels that a product with many rows reads at once
_PANELS_BY_ROWS = tuple(tile_panels(min(count, MAX_TILE_ROWS)) for count in range(9))
_Product: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int, int, int, int], None]


def _product(*, strided: bool, narrow: bool) -> _Product:
    """A function for any number of rows and panels.

    Each of its tiles takes a while to compile, so those that are never called are left out.
    """
    offered = STRIDED_COUNTS if strided else range(MAX_TILE_ROWS + 1)
    counts = [count if count in offered else 1 for count in range(1, 9)]  # the others are never called
    one, two, three, four, five, six, seven, eight = (_rows(count, strided=strided, narrow=narrow) for count in counts)

    @compiled
    def product(
        kind: int,
        rows: int,
        x: int,
        xs: int,
        x_step: int,
        w: int,
        ws: int,
        w_step: int,
        length: int,
        panels: int,
        out: int,
        outs: int,
        addend: int,
        adds: int,
    ) -> None:
        """As `tile`, for any number of rows and panels."""
        no_inline()
        most = _PANELS_BY_ROWS[min(rows, MAX_TILE_ROWS)]
        if kind and rows >= MANY_ROWS:
            most = 1
        panel = 0
        while panel < panels:
            width = most
            while width > panels - panel:
                width //= 2
            here = w + panel * ws
            column = panel * PANEL_ROW_BYTES
            row = 0
            while row < rows:
                count = min(rows - row, MAX_TILE_ROWS)
                if MAX_TILE_ROWS < rows - row <= 8:
                    count = 4  # and then at most 4: a block of 2 would leave the adders waiting
                if strided and count < MAX_TILE_ROWS:
                    count = 4 if count >= 4 else count
                    count = 2 if count == 3 else count
                add = addend + row * adds + column if addend else 0
                xr, outr = x + row * xs, out + row * outs + column
                if count == 1:
                    one(width, kind, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 2:
                    two(width, kind, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 3:
                    three(width, kind, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 4:
                    four(width, kind, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 5:
                    five(width, kind, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 6:
                    six(width, kind, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 7:
                    seven(width, kind, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                else:
                    eight(width, kind, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                row += count
            panel += width

    return product


_packed = _product(strided=False, narrow=True)
_packed_float32 = _product(strided=False, narrow=False)
_strided = _product(strided=True, narrow=False)


@compiled
def multiply(
    kind: int,
    rows: int,
    x: int,
    x_stride: int,
    w: int,
    panel_stride: int,
    length: int,
    panels: int,
    out: int,
    out_stride: int,
    addend: int,
    addend_stride: int,
) -> None:
    """out [rows, 16 * panels] = x [rows, length] @ w (+ addend).

    `w`: panels of numbers in the format `kind`, one of `Number`. Strides are in bytes, from row to row and from panel
    to panel.
    `addend` 0: none; `addend_stride` 0: one row for all, such as a bias. The addend may be `out`.
    """
    none = number(0)
    _packed(
        kind, rows, x, x_stride, none, w, panel_stride, none, length, panels, out, out_stride, addend, addend_stride
    )


@compiled
def multiply_float32(
    rows: int,
    x: int,
    x_stride: int,
    w: int,
    panel_stride: int,
    length: int,
    panels: int,
    out: int,
    out_stride: int,
    addend: int,
    addend_stride: int,
) -> None:
    """As `multiply`, for float32 panels only."""
    none = number(0)
    _packed_float32(
        none, rows, x, x_stride, none, w, panel_stride, none, length, panels, out, out_stride, addend, addend_stride
    )


@compiled
def multiply_strided(
    rows: int,
    x: int,
    x_stride: int,
    x_step: int,
    w: int,
    w_step: int,
    length: int,
    panels: int,
    out: int,
    out_stride: int,
    addend: int,
    addend_stride: int,
) -> None:
    """As `multiply_float32`, for a matrix w [length, 16 * panels] in rows.

    w's rows are `w_step` bytes apart, x's rows `x_stride`, and the numbers of x's rows `x_step`: 4, or more where x is
    read column by column.
    """
    column = number(PANEL_ROW_BYTES)
    _strided(
        number(0), rows, x, x_stride, x_step, w, column, w_step, length, panels, out, out_stride, addend, addend_stride
    )


@compiled
def multiply_columns(
    rows: int,
    x: int,
    x_stride: int,
    x_step: int,
    w: int,
    panel_stride: int,
    length: int,
    panels: int,
    out: int,
    out_stride: int,
    addend: int,
    addend_stride: int,
) -> None:
    """As `multiply_float32`, for x that is read column by column.

    The numbers of its rows are `x_step` bytes apart.
    """
    none, step = number(0), number(PANEL_ROW_BYTES)
    _strided(
        none, rows, x, x_stride, x_step, w, panel_stride, step, length, panels, out, out_stride, addend, addend_stride
    )
