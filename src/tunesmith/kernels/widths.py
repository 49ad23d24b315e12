"""Narrow numbers as float32: panels, squares of them transposed, embeddings.

Every number of 16 bits is one of 32, and what a quantised one stands for is: what is computed from a widened matrix has
the bits of what is computed from a float32 copy of it.
"""

from tunesmith.kernels.blocks import (
    BLOCK_BYTES,
    BLOCK_INPUTS,
    HEADER_BYTES,
    SQUARE_BYTES,
    block_transposer,
    block_widener,
)
from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import floats
from tunesmith.kernels.intrinsics import prefetch
from tunesmith.kernels.thread_pool import CACHE_LINE
from tunesmith.kernels.tiles import widener
from tunesmith.kernels.vectors import (
    FLOAT_BYTES,
    LANES,
    PANEL_ROW_BYTES,
    QUANTISED,
    Number,
    no_inline,
    reader,
    transposer,
)

INT8_INPUTS, INT8_BYTES = BLOCK_INPUTS[Number.INT8], BLOCK_BYTES[Number.INT8]
INT4_INPUTS, INT4_BYTES = BLOCK_INPUTS[Number.INT4], BLOCK_BYTES[Number.INT4]  # INT6 has as many inputs
INT6_BYTES, INT8_SQUARE, INT4_SQUARE = BLOCK_BYTES[Number.INT6], SQUARE_BYTES[Number.INT8], SQUARE_BYTES[Number.INT4]
INT8_HEADER, INT4_HEADER, INT6_HEADER = (HEADER_BYTES[kind] for kind in BLOCK_BYTES)
BLOCKS_AHEAD = 6  # of a weight that is transposed: they are far apart, so the hardware does not ask for the next

_copy, _widen_half, _widen_bfloat = widener(Number.FLOAT32), widener(Number.FLOAT16), widener(Number.BFLOAT16)
_widen_int8, _widen_int4, _widen_int6 = (block_widener(kind) for kind in BLOCK_BYTES)
_transpose, _transpose_half, _transpose_bfloat = (transposer(kind) for kind in Number if kind < QUANTISED)
_transpose_int8, _transpose_int4, _transpose_int6 = (block_transposer(kind) for kind in BLOCK_BYTES)
_read, _read_half, _read_bfloat = reader(Number.FLOAT32), reader(Number.FLOAT16), reader(Number.BFLOAT16)


@compiled
def number_bytes(kind: int) -> int:
    """Of one number in the format `kind`, one of `Number` that is not quantised."""
    return number(FLOAT_BYTES) if kind == Number.FLOAT32 else number(2)


@compiled
def panel_bytes(kind: int, length: int) -> int:
    """Of a panel of `length` inputs, in whole blocks, in any format."""
    if kind < QUANTISED:
        return length * LANES * number_bytes(kind)
    if kind == Number.INT8:
        return length // INT8_INPUTS * INT8_BYTES
    return length // INT4_INPUTS * (INT4_BYTES if kind == Number.INT4 else INT6_BYTES)


@compiled
def widen(kind: int, source: int, target: int, rows: int) -> None:
    """Copies rows of a panel [rows, 16] to float32; of a quantised one whole blocks."""
    no_inline()
    if kind == Number.FLOAT16:
        _widen_half(source, target, rows)
    elif kind == Number.BFLOAT16:
        _widen_bfloat(source, target, rows)
    elif kind == Number.INT8:
        _widen_int8(source, target, rows)
    elif kind == Number.INT4:
        _widen_int4(source, target, rows)
    elif kind == Number.INT6:
        _widen_int6(source, target, rows)
    else:
        _copy(source, target, rows)


@compiled
def transpose_panel(kind: int, weight: int, panel_stride: int, panels: int, square: int, target: int) -> None:
    """Transposes 16 inputs of each of `panels` panels.

    They begin `panel_stride` bytes apart. `square`: which 16. To float32 [16 * panels, 16].
    """
    no_inline()
    if kind >= QUANTISED:
        _transpose_blocks(kind, weight, panel_stride, panels, square, target)
        return
    row = LANES * number_bytes(kind)
    for panel in range(panels):
        here, there = weight + panel * panel_stride + square * LANES * row, target + panel * LANES * PANEL_ROW_BYTES
        for line in range(0, LANES * row, CACHE_LINE):
            prefetch(here + BLOCKS_AHEAD * panel_stride + line)
        if kind == Number.FLOAT16:
            _transpose_half(here, row, there)
        elif kind == Number.BFLOAT16:
            _transpose_bfloat(here, row, there)
        else:
            _transpose(here, row, there)


@compiled
def _transpose_blocks(kind: int, weight: int, panel_stride: int, panels: int, square: int, target: int) -> None:
    block, numbers, size = _place(kind, square)
    for panel in range(panels):
        here, there = weight + panel * panel_stride, target + panel * LANES * PANEL_ROW_BYTES
        ahead = here + BLOCKS_AHEAD * panel_stride
        prefetch(ahead + block)
        for line in range(0, size, CACHE_LINE):
            prefetch(ahead + numbers + line)
        if kind == Number.INT8:
            _transpose_int8(here, square, there)
        elif kind == Number.INT4:
            _transpose_int4(here, square, there)
        else:
            _transpose_int6(here, square, there)


@compiled
def _place(kind: int, square: int) -> tuple[int, int, int]:
    """Where in a panel the block of 16 inputs begins, where their numbers do, and the bytes of these."""
    if kind == Number.INT8:
        squares = INT8_INPUTS // LANES
        block = square // squares * INT8_BYTES
        return block, block + INT8_HEADER + square % squares * INT8_SQUARE, number(INT8_SQUARE)
    squares = INT4_INPUTS // LANES
    if kind == Number.INT4:
        block = square // squares * INT4_BYTES
        return block, block + INT4_HEADER + square % squares * INT4_SQUARE, number(INT4_SQUARE)
    block = square // squares * INT6_BYTES
    return block, block + INT6_HEADER + square % squares * INT8_SQUARE, number(INT8_SQUARE)


@compiled
def read_numbers(kind: int, source: int, target: int, count: int) -> None:
    """Copies numbers that are side by side to float32."""
    numbers = floats(target, count)
    for i in range(count):
        if kind == Number.FLOAT16:
            numbers[i] = _read_half(source + i * 2)
        elif kind == Number.BFLOAT16:
            numbers[i] = _read_bfloat(source + i * 2)
        else:
            numbers[i] = _read(source + i * FLOAT_BYTES)
