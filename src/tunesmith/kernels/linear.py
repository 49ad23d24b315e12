"""Linear layers of a step: a shared matrix for all rows, and each adapter's update for its own."""

from numpy import int64
from numpy.typing import NDArray

from tunesmith.kernels.compiled import compiled, number
from tunesmith.kernels.elementwise import floats, silu_times, table
from tunesmith.kernels.multiply import multiply
from tunesmith.kernels.step_args import (
    LOW_A,
    LOW_COLUMNS,
    LOW_PANELS,
    LOW_PARTS,
    PART_B,
    PART_COLUMNS,
    PART_FIRST,
    PART_LAST,
    PART_OFFSET,
    PART_RANK,
    SEGMENT_LOWS,
    SEGMENT_ROW,
    SEGMENT_ROWS,
    Job,
    Line,
)
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.vectors import LANES

ROW_BYTES = LANES * 4  # of a panel in float32, and of its columns in an output
MOST_PANELS = 32  # of a piece of work


@compiled
def low_products(
    j: Job, counter: int, segments: NDArray[int64], line: int, source: int, length: int, stride: int
) -> None:
    """low = source @ a for every segment whose adapter has this line; a piece is a panel of a segment."""
    low_stride, panel_stride = j.low_panels * ROW_BYTES, length * ROW_BYTES
    pieces = j.segments * j.low_panels
    none, one = number(0), number(1)
    piece = claim(counter)
    while piece < pieces:
        segment, panel = piece // j.low_panels, piece % j.low_panels
        low = table(segments[segment, SEGMENT_LOWS], line + 1, LOW_COLUMNS)[line]
        if panel < low[LOW_PANELS]:
            row, rows = segments[segment, SEGMENT_ROW], segments[segment, SEGMENT_ROWS]
            a, out = low[LOW_A] + panel * panel_stride, j.low + row * low_stride + panel * ROW_BYTES
            multiply(
                none, rows, source + row * stride, stride, a, panel_stride, length, one, out, low_stride, none, none
            )
        piece = claim(counter)


@compiled
def _add_low(j: Job, segments: NDArray[int64], line: int, first: int, last: int, out: int, stride: int) -> None:
    """out += low @ b in the panels from `first` to `last`; `out` is the address of column 0."""
    low_stride = j.low_panels * ROW_BYTES
    for segment in range(j.segments):
        low = table(segments[segment, SEGMENT_LOWS], line + 1, LOW_COLUMNS)[line]
        row, rows = segments[segment, SEGMENT_ROW], segments[segment, SEGMENT_ROWS]
        for first_column in range(LOW_PARTS, LOW_COLUMNS, PART_COLUMNS):
            part = low[first_column : first_column + PART_COLUMNS]
            begin, end = max(first, part[PART_FIRST]), min(last, part[PART_LAST])
            if begin < end:
                panel_stride = part[PART_RANK] * ROW_BYTES
                b = part[PART_B] + (begin - part[PART_FIRST]) * panel_stride
                x = j.low + row * low_stride + part[PART_OFFSET] * 4
                here = out + row * stride + begin * ROW_BYTES
                rank, panels = part[PART_RANK], end - begin
                multiply(number(0), rows, x, low_stride, b, panel_stride, rank, panels, here, stride, here, stride)


@compiled
def piece_panels(panels: int, threads: int) -> int:
    return min(max(-(-panels // (3 * threads)) // 2 * 2, 2), MOST_PANELS)


@compiled
def linear(
    j: Job,
    counter: int,
    threads: int,
    rows: int,
    segments: NDArray[int64],
    index: int,
    line: Line,
    source: int,
    stride: int,
    out: int,
    out_stride: int,
    add: int,
) -> None:
    """out = source @ weight + bias (+ out where `add`) + the adapters' updates; `index` -1: none has this line."""
    step = piece_panels(line.panels, threads)
    first = claim(counter) * step
    while first < line.panels:
        last = min(first + step, line.panels)
        column = first * ROW_BYTES
        addend, addend_stride = number(0), number(0)
        if add:
            addend, addend_stride = out + column, out_stride
        elif line.bias:
            addend = line.bias + column
        w = line.weight + first * line.panel_stride
        here = out + column
        multiply(
            j.half,
            rows,
            source,
            stride,
            w,
            line.panel_stride,
            line.length,
            last - first,
            here,
            out_stride,
            addend,
            addend_stride,
        )
        if add and line.bias:
            add_bias(line.bias + column, (last - first) * LANES, rows, here, out_stride)
        if index >= 0:
            _add_low(j, segments, index, first, last, out, out_stride)
        first = claim(counter) * step


@compiled
def add_bias(bias: int, count: int, rows: int, out: int, stride: int) -> None:
    numbers = floats(bias, count)
    for row in range(rows):
        sums = floats(out + row * stride, count)
        for i in range(count):
            sums[i] += numbers[i]


@compiled
def gate_up(j: Job, counter: int, threads: int, segments: NDArray[int64], index: int, line: Line) -> None:
    """The first half of `gated` = silu(normed @ gate) * (normed @ up)."""
    stride = 2 * j.inner_panels * ROW_BYTES
    step, none = piece_panels(j.inner_panels, threads), number(0)
    begin = claim(counter) * step
    while begin < j.inner_panels:
        panels = min(step, j.inner_panels - begin)
        for half in range(2):
            first = begin + half * j.inner_panels
            column = first * ROW_BYTES
            bias = line.bias + column if line.bias else 0
            w, out = line.weight + first * line.panel_stride, j.gated + column
            multiply(
                j.half,
                j.rows,
                j.normed,
                j.hidden_stride,
                w,
                line.panel_stride,
                line.length,
                panels,
                out,
                stride,
                bias,
                none,
            )
            _add_low(j, segments, index, first, first + panels, j.gated, stride)
        for row in range(j.rows):
            gate = j.gated + row * stride + begin * ROW_BYTES
            silu_times(floats(gate, panels * LANES), floats(gate + stride // 2, panels * LANES))
        begin = claim(counter) * step
