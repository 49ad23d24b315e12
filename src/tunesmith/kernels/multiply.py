"""Products of a few or many rows with a matrix in panels: out = x @ w (+ addend).

A matrix [out, in] is kept as panels of 16 outputs, [out / 16, in, 16]: the weights that 16 sums need next stand side by
side. As many rows as registers allow share each weight that is read; more rows take turns while the panel is in the
nearest cache. Each sum runs over the whole length in order, so a row's result does not depend on the other rows, nor on
who computes which panels.
"""

from collections.abc import Callable
from typing import TypeAlias

from tunesmith.kernels.compiled import compiled
from tunesmith.kernels.vectors import LANES, TileFunction, features, keep_apart, tile

Rows: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int], None]

_FEATURES = features()
HAS_HALF = bool(_FEATURES & {"f16c", "avx512f", "neon", "fullfp16"})  # reads float16 numbers
_MANY_REGISTERS = "avx512f" in _FEATURES
MOST = 8 if _MANY_REGISTERS else 6  # rows that share a weight in registers
MANY = (
    12  # from here on a float16 panel stays in the nearest cache, and 8 rows with one are a tenth faster than with two
)


def _most_panels(rows: int) -> int:
    """How many panels fit beside each other: with few rows a single one would leave the adders waiting."""
    if _MANY_REGISTERS:
        return 4 if rows <= 4 else 2
    return (4, 2, 2)[rows - 1] if rows <= 3 else 1


def _rows(count: int) -> Rows:
    """A function for exactly `count` rows and 4, 2 or 1 panels."""
    most = _most_panels(count)
    four, half_four = _both(count, 4) if most == 4 else _UNUSED
    two, half_two = _both(count, 2) if most >= 2 else _UNUSED
    one, half_one = _both(count, 1)

    @compiled
    def multiply(
        panels: int, half: int, x: int, xs: int, w: int, ws: int, length: int, out: int, outs: int, add: int, adds: int
    ) -> None:
        keep_apart()
        if most == 4 and panels == 4:
            if half:
                half_four(x, xs, w, ws, length, out, outs, add, adds)
            else:
                four(x, xs, w, ws, length, out, outs, add, adds)
        elif most >= 2 and panels == 2:
            if half:
                half_two(x, xs, w, ws, length, out, outs, add, adds)
            else:
                two(x, xs, w, ws, length, out, outs, add, adds)
        elif half:
            half_one(x, xs, w, ws, length, out, outs, add, adds)
        else:
            one(x, xs, w, ws, length, out, outs, add, adds)

    return multiply


def _both(rows: int, panels: int) -> tuple[TileFunction, TileFunction]:
    """For float32 and for float16 panels; without float16 on this processor nobody calls the second."""
    return tile(rows, panels, half=False), tile(rows, panels, half=HAS_HALF)


_UNUSED = _both(1, 1)
_one, _two, _three, _four, _five, _six = (_rows(count) for count in range(1, 7))
_seven, _eight = (_rows(count if _MANY_REGISTERS else 1) for count in (7, 8))
_MOST_PANELS = tuple(_most_panels(min(count, MOST)) for count in range(9))
_W_BYTES = (LANES * 4, LANES * 2)


@compiled
def multiply(
    half: int,
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
    """`rows` rows of `length` numbers at `x` with `panels` panels at `w`; strides in bytes. See `vectors.tile`."""
    keep_apart()
    most = _MOST_PANELS[min(rows, MOST)]
    if half and rows >= MANY:
        most = 1
    panel = 0
    while panel < panels:
        width = most
        while width > panels - panel:
            width //= 2
        here = w + panel * panel_stride
        column = panel * LANES * 4
        row = 0
        while row < rows:
            count = min(rows - row, MOST)
            add = addend + row * addend_stride + column if addend else 0
            xr, outr = x + row * x_stride, out + row * out_stride + column
            if count == 1:
                _one(width, half, xr, x_stride, here, panel_stride, length, outr, out_stride, add, addend_stride)
            elif count == 2:
                _two(width, half, xr, x_stride, here, panel_stride, length, outr, out_stride, add, addend_stride)
            elif count == 3:
                _three(width, half, xr, x_stride, here, panel_stride, length, outr, out_stride, add, addend_stride)
            elif count == 4:
                _four(width, half, xr, x_stride, here, panel_stride, length, outr, out_stride, add, addend_stride)
            elif count == 5:
                _five(width, half, xr, x_stride, here, panel_stride, length, outr, out_stride, add, addend_stride)
            elif count == 6:
                _six(width, half, xr, x_stride, here, panel_stride, length, outr, out_stride, add, addend_stride)
            elif count == 7:
                _seven(width, half, xr, x_stride, here, panel_stride, length, outr, out_stride, add, addend_stride)
            else:
                _eight(width, half, xr, x_stride, here, panel_stride, length, outr, out_stride, add, addend_stride)
            row += count
        panel += width
