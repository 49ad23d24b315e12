"""Numbers of 16 bits as float32: panels, their blocks transposed, embeddings.

Every number of 16 bits is one of 32, so nothing is rounded: what is computed from a widened matrix has the bits of what
is computed from a float32 copy of it.
"""

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import floats
from tunesmith.kernels.thread_pool import CACHE_LINE
from tunesmith.kernels.vectors import (
    FLOAT_BYTES,
    LANES,
    PANEL_ROW_BYTES,
    Number,
    no_inline,
    prefetch,
    reader,
    transposer,
    widener,
)

BLOCKS_AHEAD = 6  # of a weight that is transposed: they are far apart, so the hardware does not ask for the next

_copy, _widen_half, _widen_bfloat = widener(Number.FLOAT32), widener(Number.FLOAT16), widener(Number.BFLOAT16)
_transpose, _transpose_half, _transpose_bfloat = (transposer(kind) for kind in Number)
_read, _read_half, _read_bfloat = reader(Number.FLOAT32), reader(Number.FLOAT16), reader(Number.BFLOAT16)


@compiled
def number_bytes(kind: int) -> int:
    """Of one number in the format `kind`, one of `Number`."""
    return number(FLOAT_BYTES) if kind == Number.FLOAT32 else number(2)


@compiled
def widen(kind: int, source: int, target: int, rows: int) -> None:
    """Copies rows of a panel [rows, 16] to float32."""
    no_inline()
    if kind == Number.FLOAT16:
        _widen_half(source, target, rows)
    elif kind == Number.BFLOAT16:
        _widen_bfloat(source, target, rows)
    else:
        _copy(source, target, rows)


@compiled
def transpose_panel(kind: int, source: int, panel_stride: int, panels: int, target: int) -> None:
    """Transposes rows [16, 16] of each of `panels` panels.

    To float32 [16 * panels, 16].
    """
    no_inline()
    row = LANES * number_bytes(kind)
    for panel in range(panels):
        here, there = source + panel * panel_stride, target + panel * LANES * PANEL_ROW_BYTES
        for line in range(0, LANES * row, CACHE_LINE):
            prefetch(here + BLOCKS_AHEAD * panel_stride + line)
        if kind == Number.FLOAT16:
            _transpose_half(here, row, there)
        elif kind == Number.BFLOAT16:
            _transpose_bfloat(here, row, there)
        else:
            _transpose(here, row, there)


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
