"""Linear layers of a training step: frozen matrices, LoRA, and gradients.

With g the gradient of a matrix's output, x its input and h = lora_hidden = scale * x a^T, the gradients are grad_b +=
g^T h, grad_h = scale * g b, grad_a += grad_h^T x and grad_x = g w + grad_h a. The adapter's a and b are read as the
optimizer keeps them, but for the forward pass, which needs both in panels: `repack` makes these in each step.
"""

from numpy import float32
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.dots.pairs import PAIR_ROW_BYTES, pair_transposed, round_rows
from tunesmith.kernels.dots.products import multiply_pairs, multiply_rounded
from tunesmith.kernels.elementwise import floats
from tunesmith.kernels.multiply import TILE_PANELS, multiply_float32, multiply_strided
from tunesmith.kernels.pieces import add_bias
from tunesmith.kernels.records import Records
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.training.phase_times import Share, lap
from tunesmith.kernels.training.step_args import OUT_BLOCK, LoraPart, TrainMatrix, TrainStepArgs
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES, Number
from tunesmith.kernels.widths import panel_bytes, transpose_panel, widen

ROW_BLOCK, IN_PANELS = 64, 8  # of a piece of low-rank work
ROUND_ROWS = 8  # that are rounded as one piece of work
PIECE_PANELS = 2  # of a frozen matrix: with more a thread waits for the other's last piece


@compiled
def repack(args: TrainStepArgs, counter: int, matrices: Records, parts: Records) -> None:
    """Copies a and b of every part to panels, for the forward pass.

    A piece of work is one part.
    """
    index = claim(counter)
    while index < args.parts:
        part = parts[index]
        matrix = matrices[part.matrix]
        a, b = floats(args.values + part.a, part.rank * matrix.ins), floats(args.values + part.b, part.outs * part.rank)
        place = matrix.a_panels + part.lora_column * matrix.ins * FLOAT_BYTES
        target = floats(place, _panels_of(part.rank) * LANES * matrix.ins)
        _pack(a, target, part.rank, matrix.ins)
        _pack(b, floats(part.b_panels, part.outs * part.rank), part.outs, part.rank)
        index = claim(counter)


@compiled
def _panels_of(columns: int) -> int:
    """How many panels the columns fill."""
    return -(-columns // LANES)


@compiled
def _pack(matrix: NDArray[float32], target: NDArray[float32], outs: int, ins: int) -> None:
    """Copies [outs, ins] to panels [outs / 16, ins, 16].

    The padding of the last panel stays as it is.
    """
    for panel in range(-(-outs // LANES)):
        first = panel * LANES * ins
        for k in range(ins):
            for lane in range(min(LANES, outs - panel * LANES)):
                target[first + k * LANES + lane] = matrix[first + lane * ins + k]


@compiled
def prepare(args: TrainStepArgs, counter: int, matrix: TrainMatrix, source: int) -> None:
    """matrix.lora_hidden = source @ a^T * scale with an adapter.

    With args.dots also args.rounded = source, rounded.

    A piece of work is one panel of a block of rows, or ROUND_ROWS rows.
    """
    panels, blocks = matrix.lora_width // LANES if args.adapted else number(0), -(-args.rows // ROW_BLOCK)
    stride, lora_stride = matrix.ins * FLOAT_BYTES, matrix.lora_width * FLOAT_BYTES
    none, one, scale = number(0), number(1), float32(args.update_scale)
    piece = claim(counter)
    while piece < panels * blocks:
        panel, row = piece % panels, piece // panels * ROW_BLOCK
        count = min(ROW_BLOCK, args.rows - row)
        a_stride = matrix.ins * PANEL_ROW_BYTES
        a, out = matrix.a_panels + panel * a_stride, matrix.lora_hidden + row * lora_stride + panel * PANEL_ROW_BYTES
        x = source + row * stride
        multiply_float32(count, x, stride, a, a_stride, matrix.ins, one, out, lora_stride, none, none)
        _scale_rows(out, lora_stride, count, number(LANES), scale)
        piece = claim(counter)
    if args.dots:
        _round_source(args, counter, piece, panels * blocks, source, matrix.ins)


@compiled
def _round_source(args: TrainStepArgs, counter: int, piece: int, done: int, source: int, length: int) -> None:
    """args.rounded = source [rows, length].

    `piece` is claimed already; the first `done` pieces are other work.
    """
    while (piece - done) * ROUND_ROWS < args.rows:
        first = (piece - done) * ROUND_ROWS
        last = min(first + ROUND_ROWS, args.rows)
        round_rows(source, length * FLOAT_BYTES, args.rounded, length, first, last)
        piece = claim(counter)


@compiled
def _scale_rows(address: int, stride: int, rows: int, columns: int, scale: float32) -> None:
    for row in range(rows):
        numbers = floats(address + row * stride, columns)
        for i in range(columns):
            numbers[i] *= scale


@compiled
def linear(
    args: TrainStepArgs,
    counter: int,
    times: int,
    matrix: TrainMatrix,
    parts: Records,
    source: int,
    target: int,
    addend: int,
    scratch: int,
) -> None:
    """target = source @ w^T + bias (+ addend) + lora_hidden @ b^T.

    Shapes: source [rows, ins], target and addend [rows, outs]; `addend` 0: none. A piece of work is some panels of the
    outputs. `scratch`: memory of this thread, for widened panels of a weight in fewer bits.
    """
    panels, stride, out_stride = matrix.outs // LANES, matrix.ins * FLOAT_BYTES, matrix.outs * FLOAT_BYTES
    panel_stride = panel_bytes(matrix.kind, matrix.ins)
    first = claim(counter) * PIECE_PANELS
    while first < panels:
        count = min(PIECE_PANELS, panels - first)
        column = first * PANEL_ROW_BYTES
        addition, addition_stride = number(0), number(0)
        if addend:
            addition, addition_stride = addend + column, out_stride
        elif matrix.bias:
            addition = matrix.bias + column
        w, out, ins = matrix.weight + first * panel_stride, target + column, matrix.ins
        kind, rows, unit, x = matrix.kind, args.rows, args.dots, args.rounded
        if unit:
            multiply_rounded(unit, rows, x, w, ins, count, out, out_stride, addition, addition_stride, scratch)
        else:
            frozen_product(
                kind, rows, source, stride, w, ins, count, out, out_stride, addition, addition_stride, scratch
            )
        if addend and matrix.bias:
            add_bias(matrix.bias + column, count * LANES, args.rows, out, out_stride)
        lap(times, Share.PRODUCTS_FORWARD)
        if args.adapted:
            _add_lora(args, matrix, parts, first, first + count, target, out_stride)
            lap(times, Share.LOW_RANK)
        first = claim(counter) * PIECE_PANELS


@compiled
def frozen_product(
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
    """As `multiply_float32`, for panels side by side of numbers in the format `kind`.

    A panel of fewer bits is widened once, and read by all rows from there: `scratch` [TILE_PANELS, length, 16].
    """
    wide = length * PANEL_ROW_BYTES
    if kind == Number.FLOAT32:
        multiply_float32(rows, x, x_stride, w, wide, length, panels, out, out_stride, addend, addend_stride)
        return
    narrow = panel_bytes(kind, length)
    for panel in range(0, panels, TILE_PANELS):
        count, column = min(TILE_PANELS, panels - panel), panel * PANEL_ROW_BYTES
        widen(kind, w + panel * narrow, scratch, count * length)
        add = addend + column if addend else 0
        multiply_float32(rows, x, x_stride, scratch, wide, length, count, out + column, out_stride, add, addend_stride)


@compiled
def _add_lora(
    args: TrainStepArgs, matrix: TrainMatrix, parts: Records, first: int, last: int, target: int, stride: int
) -> None:
    lora_stride = matrix.lora_width * FLOAT_BYTES
    for index in range(matrix.first_part, matrix.first_part + matrix.parts):
        part = parts[index]
        offset = part.first // LANES
        begin, end = max(first, offset), min(last, offset + part.outs // LANES)
        if begin < end:
            panel_stride = part.rank * PANEL_ROW_BYTES
            b, x = part.b_panels + (begin - offset) * panel_stride, matrix.lora_hidden + part.lora_column * FLOAT_BYTES
            out, rank, panels = target + begin * PANEL_ROW_BYTES, part.rank, end - begin
            multiply_float32(args.rows, x, lora_stride, b, panel_stride, rank, panels, out, stride, out, stride)


@compiled
def lora_back(args: TrainStepArgs, counter: int, matrix: TrainMatrix, parts: Records, grad: int, scratch: int) -> None:
    """Adds the gradients of b, and computes grad_lora_hidden.

    With args.dots also args.rounded = grad, rounded.

    `grad` [rows, outs]: of the matrix's output. A piece of work is a block of outputs, or of rows, of one part. Where
    the rank does not fill whole panels, numbers of b's next row are read too; what they add up to goes to columns of
    grad_lora_hidden that nothing reads.
    """
    row_blocks, done = -(-args.rows // ROW_BLOCK), 0
    piece = claim(counter)
    for index in range(matrix.first_part, matrix.first_part + matrix.parts):
        part = parts[index]
        pieces = row_blocks + -(-part.outs // OUT_BLOCK)
        while piece < done + pieces:
            block = piece - done
            if block < row_blocks:
                _lora_hidden_back(args, matrix, part, grad, block * ROW_BLOCK)
            else:
                _b_back(args, matrix, part, grad, (block - row_blocks) * OUT_BLOCK, scratch)
            piece = claim(counter)
        done += pieces
    if args.dots:
        _round_source(args, counter, piece, done, grad, matrix.outs)


@compiled
def _lora_hidden_back(args: TrainStepArgs, matrix: TrainMatrix, part: LoraPart, grad: int, row: int) -> None:
    """grad_lora_hidden = scale * grad @ b, of a block of rows."""
    stride, grad_lora_stride = matrix.outs * FLOAT_BYTES, args.lora_width * FLOAT_BYTES
    count, panels, none = min(ROW_BLOCK, args.rows - row), _panels_of(part.rank), number(0)
    x, b = grad + part.first * FLOAT_BYTES + row * stride, args.values + part.b
    out = args.grad_lora_hidden + row * grad_lora_stride + part.lora_column * FLOAT_BYTES
    step, b_stride, outs = number(FLOAT_BYTES), part.rank * FLOAT_BYTES, part.outs
    multiply_strided(count, x, stride, step, b, b_stride, outs, panels, out, grad_lora_stride, none, none)
    _scale_rows(out, grad_lora_stride, count, part.rank, float32(args.update_scale))


@compiled
def _b_back(args: TrainStepArgs, matrix: TrainMatrix, part: LoraPart, grad: int, first: int, scratch: int) -> None:
    """The gradient of b += grad^T @ lora_hidden, of a block of b's rows from `first` on."""
    stride, lora_stride, b_stride = matrix.outs * FLOAT_BYTES, matrix.lora_width * FLOAT_BYTES, part.rank * FLOAT_BYTES
    count, step, none = min(OUT_BLOCK, part.outs - first), number(FLOAT_BYTES), number(0)
    x, w = matrix.lora_hidden + part.lora_column * FLOAT_BYTES, grad + (part.first + first) * FLOAT_BYTES
    # As rows of b^T: the gradient is read by whole cache lines.
    rank, panels, wide = part.rank, count // LANES, count * FLOAT_BYTES
    multiply_strided(rank, x, step, lora_stride, w, stride, args.rows, panels, scratch, wide, none, none)
    _add_transposed(scratch, args.grads + part.b + first * b_stride, count, part.rank)


@compiled
def _add_transposed(source: int, target: int, rows: int, columns: int) -> None:
    """target [rows, columns] += source [columns, rows], transposed."""
    numbers, sums = floats(source, rows * columns), floats(target, rows * columns)
    for row in range(rows):
        for column in range(columns):
            sums[row * columns + column] += numbers[column * rows + row]


@compiled
def linear_back(
    args: TrainStepArgs,
    counter: int,
    times: int,
    matrix: TrainMatrix,
    parts: Records,
    grad: int,
    source: int,
    target: int,
    scratch: int,
) -> None:
    """Adds the gradients of a; target = the gradient of the source.

    Shapes: grad [rows, outs], source and target [rows, ins]; `target` 0: it is not needed. A piece of work is some
    panels of the inputs. `scratch`: memory of this thread, for panels of the transposed weight where the matrix has no
    `back`.
    """
    panels = matrix.ins // LANES
    blocks = -(-panels // IN_PANELS)
    first_piece = matrix.parts * blocks if args.adapted else 0
    piece = claim(counter)
    while piece < first_piece:
        _a_back(args, matrix, parts[matrix.first_part + piece // blocks], source, piece % blocks * IN_PANELS)
        piece = claim(counter)
    lap(times, Share.LOW_RANK)
    if target == 0:
        return
    first = (piece - first_piece) * PIECE_PANELS
    while first < panels:
        count, out = min(PIECE_PANELS, panels - first), target + first * PANEL_ROW_BYTES
        if matrix.back:
            back = matrix.back + first * panel_bytes(matrix.kind, matrix.outs)
            _weights_back(args, matrix, matrix.kind, grad, back, count, out, scratch)
        else:
            for panel in range(0, count, TILE_PANELS):
                made = min(TILE_PANELS, count - panel)
                column = panel * PANEL_ROW_BYTES
                if args.dots:
                    _rounded_back(args, times, matrix, first + panel, made, out + column, scratch)
                    continue
                _make_back(matrix, first + panel, made, scratch)
                lap(times, Share.PANELS)
                _weights_back(args, matrix, number(Number.FLOAT32), grad, scratch, made, out + column, scratch)
                lap(times, Share.PRODUCTS_BACK)
        lap(times, Share.PRODUCTS_BACK)
        if args.adapted:
            _add_lora_back(args, matrix, parts, first, count, out)
            lap(times, Share.LOW_RANK)
        first = (claim(counter) - first_piece) * PIECE_PANELS


@compiled
def _weights_back(
    args: TrainStepArgs, matrix: TrainMatrix, kind: int, grad: int, back: int, panels: int, out: int, scratch: int
) -> None:
    none, outs, unit = number(0), matrix.outs, args.dots
    grad_stride, stride = outs * FLOAT_BYTES, matrix.ins * FLOAT_BYTES
    if unit:
        multiply_rounded(unit, args.rows, args.rounded, back, outs, panels, out, stride, none, none, scratch)
    else:
        frozen_product(kind, args.rows, grad, grad_stride, back, outs, panels, out, stride, none, none, scratch)


@compiled
def _rounded_back(
    args: TrainStepArgs, times: int, matrix: TrainMatrix, first: int, panels: int, out: int, scratch: int
) -> None:
    """The product of the rounded gradient with panels of the transposed weight, made in pairs one after the other."""
    panel_stride, blocks, none = panel_bytes(matrix.kind, matrix.ins), matrix.outs // LANES, number(0)
    outs, stride, behind = matrix.outs, matrix.ins * FLOAT_BYTES, scratch + matrix.outs // 2 * PAIR_ROW_BYTES
    for panel in range(panels):
        pair_transposed(matrix.weight, panel_stride, blocks, first + panel, scratch)
        lap(times, Share.PANELS)
        there = out + panel * PANEL_ROW_BYTES
        multiply_pairs(args.dots, args.rows, args.rounded, scratch, outs, there, stride, none, none, behind)
        lap(times, Share.PRODUCTS_BACK)


@compiled
def _make_back(matrix: TrainMatrix, first: int, panels: int, target: int) -> None:
    """Transposes panels of the weight.

    They stay in a near cache while all rows are multiplied with them.
    """
    panel_stride, blocks = panel_bytes(matrix.kind, matrix.ins), matrix.outs // LANES
    for panel in range(panels):
        there = target + panel * matrix.outs * PANEL_ROW_BYTES
        transpose_panel(matrix.kind, matrix.weight, panel_stride, blocks, first + panel, there)


@compiled
def _a_back(args: TrainStepArgs, matrix: TrainMatrix, part: LoraPart, source: int, panel: int) -> None:
    """The gradient of a += grad_lora_hidden^T @ source, in IN_PANELS panels of its columns."""
    stride, count = matrix.ins * FLOAT_BYTES, min(IN_PANELS, matrix.ins // LANES - panel)
    x, x_step = args.grad_lora_hidden + part.lora_column * FLOAT_BYTES, args.lora_width * FLOAT_BYTES
    w, out = source + panel * PANEL_ROW_BYTES, args.grads + part.a + panel * PANEL_ROW_BYTES
    multiply_strided(part.rank, x, number(FLOAT_BYTES), x_step, w, stride, args.rows, count, out, stride, out, stride)


@compiled
def _add_lora_back(args: TrainStepArgs, matrix: TrainMatrix, parts: Records, first: int, count: int, out: int) -> None:
    stride = matrix.ins * FLOAT_BYTES
    for index in range(matrix.first_part, matrix.first_part + matrix.parts):
        part = parts[index]
        x, a = args.grad_lora_hidden + part.lora_column * FLOAT_BYTES, args.values + part.a + first * PANEL_ROW_BYTES
        rows, x_stride, step, rank = args.rows, args.lora_width * FLOAT_BYTES, number(FLOAT_BYTES), part.rank
        multiply_strided(rows, x, x_stride, step, a, stride, rank, count, out, stride, out, stride)
