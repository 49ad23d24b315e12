"""Linear layers of a serving step: a shared matrix, and each adapter's LoRA."""

from numpy import int64
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.dots.pairs import round_rows
from tunesmith.kernels.dots.products import multiply_rounded
from tunesmith.kernels.elementwise import floats, gelu_mul_in_place, silu_mul_in_place, table
from tunesmith.kernels.multiply import multiply
from tunesmith.kernels.pieces import add_bias, piece_panels
from tunesmith.kernels.quantised import multiply_frozen
from tunesmith.kernels.records import Activation
from tunesmith.kernels.serving.step_args import (
    LORA_A,
    LORA_COLUMNS,
    LORA_PANELS,
    LORA_PARTS,
    PART_B,
    PART_COLUMNS,
    PART_FIRST,
    PART_LAST,
    PART_OFFSET,
    PART_RANK,
    SEGMENT_LORA,
    SEGMENT_ROW,
    SEGMENT_ROWS,
    Matrix,
    StepArgs,
)
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES

ROUND_ROWS = 4  # that are rounded as one piece of work


@compiled
def prepare(
    args: StepArgs, counter: int, segments: NDArray[int64], index: int, source: int, length: int, stride: int
) -> None:
    """args.lora_hidden = source @ a for each segment whose adapter has an a here.

    With args.dots also args.rounded = source, rounded.

    `index` is the matrix's row in an adapter's table; the source has `length` columns and rows `stride` bytes apart. A
    piece of work is one panel of one segment, or ROUND_ROWS rows.
    """
    lora_stride, panel_stride = args.lora_panels * PANEL_ROW_BYTES, length * PANEL_ROW_BYTES
    pieces = args.segments * args.lora_panels
    none, one = number(0), number(1)
    piece = claim(counter)
    while piece < pieces:
        segment, panel = piece // args.lora_panels, piece % args.lora_panels
        lora = table(segments[segment, SEGMENT_LORA], index + 1, LORA_COLUMNS)[index]
        if panel < lora[LORA_PANELS]:
            row, rows = segments[segment, SEGMENT_ROW], segments[segment, SEGMENT_ROWS]
            a = lora[LORA_A] + panel * panel_stride
            x, out = source + row * stride, args.lora_hidden + row * lora_stride + panel * PANEL_ROW_BYTES
            multiply(none, rows, x, stride, a, panel_stride, length, one, out, lora_stride, none, none)
        piece = claim(counter)
    first = (piece - pieces) * ROUND_ROWS
    while args.dots and first < args.rows:
        round_rows(source, stride, args.rounded, length, first, min(first + ROUND_ROWS, args.rows))
        first = (claim(counter) - pieces) * ROUND_ROWS


@compiled
def _add_lora(
    args: StepArgs, segments: NDArray[int64], index: int, first: int, last: int, out: int, stride: int
) -> None:
    """out += lora_hidden @ b in the panels from `first` to `last`.

    `out` is the address of column 0.
    """
    lora_stride = args.lora_panels * PANEL_ROW_BYTES
    for segment in range(args.segments):
        lora = table(segments[segment, SEGMENT_LORA], index + 1, LORA_COLUMNS)[index]
        row, rows = segments[segment, SEGMENT_ROW], segments[segment, SEGMENT_ROWS]
        for first_column in range(LORA_PARTS, LORA_COLUMNS, PART_COLUMNS):
            part = lora[first_column : first_column + PART_COLUMNS]
            begin, end = max(first, part[PART_FIRST]), min(last, part[PART_LAST])
            if begin < end:
                panel_stride = part[PART_RANK] * PANEL_ROW_BYTES
                b = part[PART_B] + (begin - part[PART_FIRST]) * panel_stride
                x = args.lora_hidden + row * lora_stride + part[PART_OFFSET] * FLOAT_BYTES
                here = out + row * stride + begin * PANEL_ROW_BYTES
                rank, panels = part[PART_RANK], end - begin
                multiply(number(0), rows, x, lora_stride, b, panel_stride, rank, panels, here, stride, here, stride)


@compiled
def linear(
    args: StepArgs,
    counter: int,
    threads: int,
    rows: int,
    segments: NDArray[int64],
    index: int,
    matrix: Matrix,
    source: int,
    stride: int,
    out: int,
    out_stride: int,
    add: int,
    scratch: int,
) -> None:
    """out = source @ weight + bias (+ out if `add`) + the adapters' updates.

    Shapes: source [rows, matrix.length], out [rows, 16 * matrix.panels]; strides in bytes. `index` is the matrix's row
    in an adapter's table, -1 for the output layer, which no adapter updates and whose product is always exact. A piece
    of work is some panels of all rows. `scratch`: memory of this thread, as `multiply_frozen` or `multiply_rounded`
    takes it.
    """
    step = piece_panels(matrix.panels, threads)
    first = claim(counter) * step
    while first < matrix.panels:
        last = min(first + step, matrix.panels)
        column = first * PANEL_ROW_BYTES
        addend, addend_stride = number(0), number(0)
        if add:
            addend, addend_stride = out + column, out_stride
        elif matrix.bias:
            addend = matrix.bias + column
        w = matrix.weight + first * matrix.panel_stride
        here = out + column
        length, count, kind, unit, x = matrix.length, last - first, matrix.kind, args.dots, args.rounded
        if unit and index >= 0:
            multiply_rounded(unit, rows, x, w, length, count, here, out_stride, addend, addend_stride, scratch)
        else:
            multiply_frozen(
                kind, rows, source, stride, w, length, count, here, out_stride, addend, addend_stride, scratch
            )
        if add and matrix.bias:
            add_bias(matrix.bias + column, (last - first) * LANES, rows, here, out_stride)
        if index >= 0:
            _add_lora(args, segments, index, first, last, out, out_stride)
        first = claim(counter) * step


@compiled
def gate_up(
    args: StepArgs,
    counter: int,
    threads: int,
    segments: NDArray[int64],
    index: int,
    matrix: Matrix,
    source: int,
    scratch: int,
) -> None:
    """The left half of args.gate_up = activation(source @ gate) * (source @ up).

    Source [rows, hidden]. Biases and LoRA included. A piece of work is some panels of the gate projection and
    the same ones of the up projection, for all rows. `scratch` as for `linear`.
    """
    stride = 2 * args.inner_panels * PANEL_ROW_BYTES
    step, none = piece_panels(args.inner_panels, threads), number(0)
    begin = claim(counter) * step
    while begin < args.inner_panels:
        panels = min(step, args.inner_panels - begin)
        for half in range(2):
            first = begin + half * args.inner_panels
            column = first * PANEL_ROW_BYTES
            bias = matrix.bias + column if matrix.bias else 0
            w, out = matrix.weight + first * matrix.panel_stride, args.gate_up + column
            hidden, length, kind, unit, rows = args.hidden_stride, matrix.length, matrix.kind, args.dots, args.rows
            if unit:
                multiply_rounded(unit, rows, args.rounded, w, length, panels, out, stride, bias, none, scratch)
            else:
                multiply_frozen(kind, rows, source, hidden, w, length, panels, out, stride, bias, none, scratch)
            _add_lora(args, segments, index, first, first + panels, args.gate_up, stride)
        for row in range(args.rows):
            gate = args.gate_up + row * stride + begin * PANEL_ROW_BYTES
            gates, ups = floats(gate, panels * LANES), floats(gate + stride // 2, panels * LANES)
            if args.activation == Activation.GELU_TANH:
                gelu_mul_in_place(gates, ups)
            else:
                silu_mul_in_place(gates, ups)
        begin = claim(counter) * step
