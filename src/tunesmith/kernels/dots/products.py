"""Products of rounded rows with bfloat16 panels, by either unit."""

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.dots.amx import AMX_SCRATCH, CONFIG_BYTES, begin_tiles, release_tiles, tiles_panel
from tunesmith.kernels.dots.pairs import NARROW_ROW_BYTES, PAIR_ROW_BYTES, ROUNDED_BYTES, pair_rows
from tunesmith.kernels.dots.unit import DotUnit
from tunesmith.kernels.dots.vector import vector_panel
from tunesmith.kernels.vectors import PANEL_ROW_BYTES


@compiled
def multiply_pairs(
    unit: int, rows: int, x: int, w: int, length: int, out: int, outs: int, addend: int, adds: int, scratch: int
) -> None:
    """The product of rounded rows [rows, length] with one panel in pairs.

    `unit`: a `DotUnit` that is not NONE; `outs` and `adds` in bytes from row to row; `addend` 0: nothing is added.
    `scratch`: memory of this thread, AMX_SCRATCH bytes.
    """
    stride, pairs = length * ROUNDED_BYTES, length // 2
    if unit == DotUnit.TILES:
        begin_tiles(scratch)
        tiles_panel(rows, x, stride, w, pairs, out, outs, addend, adds, scratch + CONFIG_BYTES)
        release_tiles()
    else:
        vector_panel(rows, x, stride, w, pairs, out, outs, addend, adds)


@compiled
def multiply_rounded(
    unit: int,
    rows: int,
    x: int,
    w: int,
    length: int,
    panels: int,
    out: int,
    outs: int,
    addend: int,
    adds: int,
    scratch: int,
) -> None:
    """The product of rounded rows with bfloat16 panels, side by side.

    `w`: the panels [panels, length, 16]. The rest as for `multiply_pairs`; `scratch`: `dot_scratch` bytes.
    """
    paired = length // 2 * PAIR_ROW_BYTES
    for panel in range(panels):
        column = panel * PANEL_ROW_BYTES
        pair_rows(w + panel * length * NARROW_ROW_BYTES, scratch, length // 2)
        add = addend + column if addend else number(0)
        multiply_pairs(unit, rows, x, scratch, length, out + column, outs, add, adds, scratch + paired)


def dot_scratch(length: int) -> int:
    """The bytes that a thread needs for products of so many inputs."""
    return length // 2 * PAIR_ROW_BYTES + AMX_SCRATCH
