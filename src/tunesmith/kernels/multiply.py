"""Products of a few or many rows with a matrix in panels: out = x @ w (+ addend).

A matrix [out, in] is kept as panels of 16 outputs, [out / 16, in, 16]: the weights that 16 sums need next stand side by
side. As many rows as registers allow share each weight that is read; more rows take turns while the panel is in the
nearest cache. Each sum runs over the whole length in order, so a row's result does not depend on the other rows, nor on
who computes which panels.

`multiply_strided` takes operands as they lie in memory, row by row or column by column: for what is not worth packing.
"""

from collections.abc import Callable
from typing import TypeAlias

from tunesmith.kernels.compiled import compiled, number
from tunesmith.kernels.vectors import LANES, TileFunction, features, keep_apart, tile

Rows: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int, int, int], None]

_FEATURES = features()
HAS_HALF = bool(_FEATURES & {"f16c", "avx512f", "neon", "fullfp16"})  # reads float16 numbers
_MANY_REGISTERS = "avx512f" in _FEATURES
MOST = 8 if _MANY_REGISTERS else 6  # rows that share a weight in registers
MANY = (
    12  # from here on a float16 panel stays in the nearest cache, and 8 rows with one are a tenth faster than with two
)
FLOAT_BYTES = 4
STRIDED_COUNTS = (1, 2, 4, 8)  # rows of a strided block: each takes a second of compiling


def _most_panels(rows: int) -> int:
    """How many panels fit beside each other: with few rows a single one would leave the adders waiting."""
    if _MANY_REGISTERS:
        return 4 if rows <= 4 else 2
    return (4, 2, 2)[rows - 1] if rows <= 3 else 1


def _rows(count: int, *, strided: bool, halves: bool) -> Rows:
    """A function for exactly `count` rows and 4, 2 or 1 panels; `halves`: of float16, too."""
    most = _most_panels(count)
    four, half_four = _both(count, 4, strided=strided, halves=halves) if most == 4 else _UNUSED
    two, half_two = _both(count, 2, strided=strided, halves=halves) if most >= 2 else _UNUSED
    one, half_one = _both(count, 1, strided=strided, halves=halves)

    @compiled
    def multiply(
        panels: int,
        half: int,
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
        keep_apart()
        if most == 4 and panels == 4:
            if halves and half:
                half_four(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
            else:
                four(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
        elif most >= 2 and panels == 2:
            if halves and half:
                half_two(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
            else:
                two(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
        elif halves and half:
            half_one(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)
        else:
            one(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)

    return multiply


def _both(rows: int, panels: int, *, strided: bool, halves: bool) -> tuple[TileFunction, TileFunction]:
    """For float32 and for float16 panels; without float16 on this processor nobody calls the second."""
    plain = tile(rows, panels, half=False, strided=strided)
    return plain, tile(rows, panels, half=True, strided=strided) if halves and HAS_HALF else plain


_UNUSED = _both(1, 1, strided=False, halves=False)
BESIDE = _most_panels(MOST)  # panels that a product of many rows reads at once
_MOST_PANELS = tuple(_most_panels(min(count, MOST)) for count in range(9))
_Product: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int, int, int, int], None]


def _product(*, strided: bool, halves: bool) -> _Product:
    """A function for any number of rows and panels. Each of its blocks takes a while to compile."""
    offered = STRIDED_COUNTS if strided else range(MOST + 1)
    counts = [count if count in offered else 1 for count in range(1, 9)]  # the others are never called
    one, two, three, four, five, six, seven, eight = (_rows(count, strided=strided, halves=halves) for count in counts)

    @compiled
    def product(
        half: int,
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
        keep_apart()
        most = _MOST_PANELS[min(rows, MOST)]
        if half and rows >= MANY:
            most = 1
        panel = 0
        while panel < panels:
            width = most
            while width > panels - panel:
                width //= 2
            here = w + panel * ws
            column = panel * LANES * FLOAT_BYTES
            row = 0
            while row < rows:
                count = min(rows - row, MOST)
                if strided and count < 8:
                    count = 4 if count >= 4 else count
                    count = 2 if count == 3 else count
                add = addend + row * adds + column if addend else 0
                xr, outr = x + row * xs, out + row * outs + column
                if count == 1:
                    one(width, half, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 2:
                    two(width, half, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 3:
                    three(width, half, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 4:
                    four(width, half, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 5:
                    five(width, half, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 6:
                    six(width, half, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                elif count == 7:
                    seven(width, half, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                else:
                    eight(width, half, xr, xs, x_step, here, ws, w_step, length, outr, outs, add, adds)
                row += count
            panel += width

    return product


_packed = _product(strided=False, halves=True)
_packed_float32 = _product(strided=False, halves=False)
_strided = _product(strided=True, halves=False)


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
    none = number(0)
    _packed(
        half, rows, x, x_stride, none, w, panel_stride, none, length, panels, out, out_stride, addend, addend_stride
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
    """As `multiply`, of float32 panels only."""
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
    """The same for a matrix w [length, 16 * panels] whose rows are `w_step` bytes apart.

    x's rows are `x_stride` bytes apart and the numbers of one `x_step`: 4, or more where x is read column by column.
    """
    column = number(LANES * FLOAT_BYTES)
    _strided(
        number(0), rows, x, x_stride, x_step, w, column, w_step, length, panels, out, out_stride, addend, addend_stride
    )
