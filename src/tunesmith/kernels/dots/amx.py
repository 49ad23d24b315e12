"""Dot products by AMX: tiles of 16 rows of 32 numbers, or of 16 sums."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from llvmlite import ir
from numba.core import cgutils

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.dots.pairs import PAIR_ROW_BYTES
from tunesmith.kernels.dots.unit import HAS_TILES
from tunesmith.kernels.elementwise import floats, table
from tunesmith.kernels.intrinsics import of_addresses
from tunesmith.kernels.vectors import BYTE, I64, LANES, PANEL_ROW_BYTES, no_inline

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values

TILE_ROWS, TILE_BYTES = 16, 1024
TILE_BLOCKS = 4  # tiles of sums at a time
CONFIG_BYTES = 64  # of the table that says what tiles there are
AMX_SCRATCH = CONFIG_BYTES + TILE_BLOCKS * TILE_BYTES  # the table, and sums


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    """An instruction of AMX, by LLVM's name for it."""
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _amx_tiles(blocks: int) -> Callable[[int, int, int, int, int], None]:
    """Sums of `blocks` times 16 rounded rows with a panel in pairs: (x, x_stride, w, steps of 32 inputs, sums).

    The sums [blocks, 16, 16] are written to the last.
    """

    def product(builder: ir.IRBuilder, arguments: "Values") -> None:
        if not HAS_TILES:  # then it is never called
            return
        x, x_stride, w, steps, target = arguments
        line = ir.Constant(I64, PAIR_ROW_BYTES)
        weights, factors = (ir.Constant(BYTE, index) for index in (TILE_BLOCKS, TILE_BLOCKS + 1))
        sums = [ir.Constant(BYTE, block) for block in range(blocks)]
        below = [builder.mul(x_stride, ir.Constant(I64, TILE_ROWS * block)) for block in range(blocks)]
        for total in sums:
            _call(builder, "tilezero", total)
        with cgutils.for_range(builder, steps, intp=I64) as loop:
            step = builder.mul(loop.index, ir.Constant(I64, TILE_BYTES))
            _call(builder, "tileloadd64", weights, _behind(builder, w, step), line)
            column = builder.mul(loop.index, line)
            for total, rows in zip(sums, below, strict=True):
                _call(builder, "tileloadd64", factors, _behind(builder, x, builder.add(rows, column)), x_stride)
                _call(builder, "tdpbf16ps", total, factors, weights)
        for block, total in enumerate(sums):
            offset = ir.Constant(I64, block * TILE_BYTES)
            _call(builder, "tilestored64", total, _behind(builder, target, offset), line)

    return cast(Callable[[int, int, int, int, int], None], of_addresses(5, product))


def _behind(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value) -> ir.Value:
    return builder.inttoptr(builder.add(address, offset), BYTE.as_pointer())


_most_tiles, _one_tile = _amx_tiles(TILE_BLOCKS), _amx_tiles(1)


def _configure(builder: ir.IRBuilder, arguments: "Values") -> None:
    if HAS_TILES:
        _call(builder, "ldtilecfg", builder.inttoptr(arguments[0], BYTE.as_pointer()))


def _release(builder: ir.IRBuilder, _: "Values") -> None:
    if HAS_TILES:
        _call(builder, "tilerelease")


_configure_tiles = cast(Callable[[int], None], of_addresses(1, _configure))
release_tiles = cast(Callable[[], None], of_addresses(0, _release))


@compiled
def begin_tiles(config: int) -> None:
    """Says that all tiles have 16 rows of 64 bytes, by the table that AMX reads."""
    words = table(config, 1, CONFIG_BYTES // 8)
    for index in range(CONFIG_BYTES // 8):
        words[0, index] = 0
    words[0, 0] = 1
    words[0, 2] = words[0, 3] = 0x0040004000400040  # bytes of a row, a tile after the other
    words[0, 6] = 0x1010101010101010  # their rows
    _configure_tiles(config)


@compiled
def tiles_panel(
    rows: int, x: int, stride: int, w: int, pairs: int, out: int, outs: int, addend: int, adds: int, sums: int
) -> None:
    """The product of all rows with one panel in pairs; `sums`: memory of this thread."""
    no_inline()
    row, steps = number(0), pairs // TILE_ROWS
    while row < rows:
        if rows - row > TILE_ROWS * (TILE_BLOCKS - 1):
            _most_tiles(x + row * stride, stride, w, steps, sums)
            count = min(TILE_ROWS * TILE_BLOCKS, rows - row)
        else:
            _one_tile(x + row * stride, stride, w, steps, sums)
            count = min(TILE_ROWS, rows - row)
        for index in range(row, row + count):
            source = floats(sums + (index - row) * PANEL_ROW_BYTES, LANES)
            target = floats(out + index * outs, LANES)
            if addend:
                others = floats(addend + index * adds, LANES)
                for lane in range(LANES):
                    target[lane] = source[lane] + others[lane]
            else:
                for lane in range(LANES):
                    target[lane] = source[lane]
        row += count
