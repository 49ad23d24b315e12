"""Linear layers of a training step: frozen matrices, the adapter's updates beside them, and their gradients.

Of a line with output gradient g: b += g^T low, low' = scale * g b, a += low'^T x, x' = g w + low' a. Low-rank operands
stand in memory as the optimizer has them and are read in place, but for two that are laid out anew in each step.
"""

from numpy import float32
from numpy.typing import NDArray

from tunesmith.kernels.compiled import compiled, number
from tunesmith.kernels.elementwise import floats
from tunesmith.kernels.linear import ROW_BYTES, add_bias, piece_panels
from tunesmith.kernels.multiply import BESIDE, multiply_float32, multiply_strided
from tunesmith.kernels.step_args import Jobs
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.train_args import OUT_BLOCK, Part, Step, TrainLine
from tunesmith.kernels.vectors import LANES, turn

FLOAT = 4
ROW_BLOCK, IN_PANELS = 64, 8  # of a piece of low-rank work


@compiled
def repack(j: Step, counter: int, lines: Jobs, parts: Jobs) -> None:
    """a and b of every part as panels, for the forward pass."""
    index = claim(counter)
    while index < j.parts:
        part = parts[index]
        line = lines[part.line]
        a, b = floats(j.values + part.a, part.rank * line.ins), floats(j.values + part.b, part.outs * part.rank)
        target = floats(line.a_panels + part.low_column * line.ins * FLOAT, _whole(part.rank) * LANES * line.ins)
        _turned(a, target, part.rank, line.ins)
        _turned(b, floats(part.b_panels, part.outs * part.rank), part.outs, part.rank)
        index = claim(counter)


@compiled
def _whole(columns: int) -> int:
    """Panels that so many columns fill."""
    return -(-columns // LANES)


@compiled
def _turned(matrix: NDArray[float32], target: NDArray[float32], outs: int, ins: int) -> None:
    """[outs, ins] -> panels [outs / 16, ins, 16]; what fills up the last one stays as it is."""
    for panel in range(-(-outs // LANES)):
        first = panel * LANES * ins
        for k in range(ins):
            for lane in range(min(LANES, outs - panel * LANES)):
                target[first + k * LANES + lane] = matrix[first + lane * ins + k]


@compiled
def low_forward(j: Step, counter: int, line: TrainLine, source: int) -> None:
    """line.low = source @ a^T * scale; a piece is a panel of a block of rows."""
    panels, blocks = line.low_width // LANES, -(-j.rows // ROW_BLOCK)
    stride, low_stride = line.ins * FLOAT, line.low_width * FLOAT
    none, one, scale = number(0), number(1), float32(j.update_scale)
    piece = claim(counter)
    while piece < panels * blocks:
        panel, row = piece % panels, piece // panels * ROW_BLOCK
        count = min(ROW_BLOCK, j.rows - row)
        a, out = line.a_panels + panel * line.ins * ROW_BYTES, line.low + row * low_stride + panel * ROW_BYTES
        x = source + row * stride
        multiply_float32(count, x, stride, a, line.ins * ROW_BYTES, line.ins, one, out, low_stride, none, none)
        _scale_rows(out, low_stride, count, number(LANES), scale)
        piece = claim(counter)


@compiled
def _scale_rows(address: int, stride: int, rows: int, columns: int, scale: float32) -> None:
    for row in range(rows):
        numbers = floats(address + row * stride, columns)
        for i in range(columns):
            numbers[i] *= scale


@compiled
def linear(
    j: Step, counter: int, threads: int, line: TrainLine, parts: Jobs, source: int, target: int, addend: int
) -> None:
    """target = source @ w^T + bias (+ addend) + the updates; a piece is some panels of the outputs."""
    panels, stride, out_stride = line.outs // LANES, line.ins * FLOAT, line.outs * FLOAT
    panel_stride = line.ins * ROW_BYTES
    step = piece_panels(panels, threads)
    first = claim(counter) * step
    while first < panels:
        count = min(step, panels - first)
        column = first * ROW_BYTES
        beside, beside_stride = number(0), number(0)
        if addend:
            beside, beside_stride = addend + column, out_stride
        elif line.bias:
            beside = line.bias + column
        w, out = line.weight + first * panel_stride, target + column
        multiply_float32(
            j.rows,
            source,
            stride,
            w,
            panel_stride,
            line.ins,
            count,
            out,
            out_stride,
            beside,
            beside_stride,
        )
        if addend and line.bias:
            add_bias(line.bias + column, count * LANES, j.rows, out, out_stride)
        if j.adapted:
            _add_updates(j, line, parts, first, first + count, target, out_stride)
        first = claim(counter) * step


@compiled
def _add_updates(j: Step, line: TrainLine, parts: Jobs, first: int, last: int, target: int, stride: int) -> None:
    low_stride = line.low_width * FLOAT
    for index in range(line.first_part, line.first_part + line.parts):
        part = parts[index]
        offset = part.first // LANES
        begin, end = max(first, offset), min(last, offset + part.outs // LANES)
        if begin < end:
            panel_stride = part.rank * ROW_BYTES
            b, x = part.b_panels + (begin - offset) * panel_stride, line.low + part.low_column * FLOAT
            out, rank, panels = target + begin * ROW_BYTES, part.rank, end - begin
            multiply_float32(j.rows, x, low_stride, b, panel_stride, rank, panels, out, stride, out, stride)


@compiled
def low_back(j: Step, counter: int, line: TrainLine, parts: Jobs, grad: int, scratch: int) -> None:
    """The gradients of b, and grad_low; a piece is a block of outputs, or of rows, of one part.

    Where the rank fills no whole panel, what is read of b's next row goes to columns of grad_low that nobody reads.
    """
    stride, low_stride, grad_low_stride = line.outs * FLOAT, line.low_width * FLOAT, j.low_width * FLOAT
    row_blocks, done = -(-j.rows // ROW_BLOCK), 0
    scale, step = float32(j.update_scale), number(FLOAT)
    piece = claim(counter)
    for index in range(line.first_part, line.first_part + line.parts):
        part = parts[index]
        panels, rank_stride = _whole(part.rank), part.rank * FLOAT
        g, low = grad + part.first * FLOAT, line.low + part.low_column * FLOAT
        pieces = row_blocks + -(-part.outs // OUT_BLOCK)
        while piece < done + pieces:
            block = piece - done
            if block < row_blocks:
                row = block * ROW_BLOCK
                count = min(ROW_BLOCK, j.rows - row)
                x, out = g + row * stride, j.grad_low + row * grad_low_stride + part.low_column * FLOAT
                b = j.values + part.b
                multiply_strided(
                    count,
                    x,
                    stride,
                    step,
                    b,
                    rank_stride,
                    part.outs,
                    panels,
                    out,
                    grad_low_stride,
                    number(0),
                    number(0),
                )
                _scale_rows(out, grad_low_stride, count, part.rank, scale)
            else:
                first = (block - row_blocks) * OUT_BLOCK
                count = min(OUT_BLOCK, part.outs - first)
                x, out = g + first * FLOAT, j.grads + part.b + first * rank_stride
                if panels * LANES == part.rank:
                    multiply_strided(
                        count, x, step, stride, low, low_stride, j.rows, panels, out, rank_stride, out, rank_stride
                    )
                else:
                    wide, none = panels * ROW_BYTES, number(0)
                    multiply_strided(count, x, step, stride, low, low_stride, j.rows, panels, scratch, wide, none, none)
                    _add_columns(scratch, wide, out, rank_stride, count, part.rank)
            piece = claim(counter)
        done += pieces


@compiled
def _add_columns(source: int, source_stride: int, target: int, stride: int, rows: int, columns: int) -> None:
    for row in range(rows):
        numbers, sums = floats(source + row * source_stride, columns), floats(target + row * stride, columns)
        for i in range(columns):
            sums[i] += numbers[i]


@compiled
def linear_back(
    j: Step,
    counter: int,
    threads: int,
    line: TrainLine,
    parts: Jobs,
    grad: int,
    source: int,
    target: int,
    scratch: int,
) -> None:
    """The gradients of a, and target = that of the source, unless it is 0; a piece is some panels of the inputs."""
    panels = line.ins // LANES
    blocks = -(-panels // IN_PANELS)
    first_piece = line.parts * blocks if j.adapted else 0
    piece = claim(counter)
    while piece < first_piece:
        _a_back(j, line, parts[line.first_part + piece // blocks], source, piece % blocks * IN_PANELS)
        piece = claim(counter)
    if target == 0:
        return
    step = piece_panels(panels, threads)
    first = (piece - first_piece) * step
    while first < panels:
        count, out = min(step, panels - first), target + first * ROW_BYTES
        if line.back:
            _weights_back(j, line, grad, line.back + first * line.outs * ROW_BYTES, count, out)
        else:
            for panel in range(0, count, BESIDE):
                made = min(BESIDE, count - panel)
                _make_back(line, first + panel, made, scratch)
                _weights_back(j, line, grad, scratch, made, out + panel * ROW_BYTES)
        if j.adapted:
            _add_low_back(j, line, parts, first, count, out)
        first = (claim(counter) - first_piece) * step


@compiled
def _weights_back(j: Step, line: TrainLine, grad: int, back: int, panels: int, out: int) -> None:
    none = number(0)
    stride, panel_stride = line.ins * FLOAT, line.outs * ROW_BYTES
    multiply_float32(j.rows, grad, line.outs * FLOAT, back, panel_stride, line.outs, panels, out, stride, none, none)


@compiled
def _make_back(line: TrainLine, first: int, panels: int, target: int) -> None:
    """Panels of the weight's other direction, which stay in a near cache while all rows are multiplied with them."""
    square = LANES * ROW_BYTES
    panel_stride = number(ROW_BYTES)
    for panel in range(panels):
        for block in range(line.outs // LANES):
            source = line.weight + block * line.ins * ROW_BYTES + (first + panel) * square
            turn(source, panel_stride, target + panel * line.outs * ROW_BYTES + block * square)


@compiled
def _a_back(j: Step, line: TrainLine, part: Part, source: int, panel: int) -> None:
    stride, count = line.ins * FLOAT, min(IN_PANELS, line.ins // LANES - panel)
    x, w, out = j.grad_low + part.low_column * FLOAT, source + panel * ROW_BYTES, j.grads + part.a + panel * ROW_BYTES
    multiply_strided(
        part.rank, x, number(FLOAT), j.low_width * FLOAT, w, stride, j.rows, count, out, stride, out, stride
    )


@compiled
def _add_low_back(j: Step, line: TrainLine, parts: Jobs, first: int, count: int, out: int) -> None:
    stride = line.ins * FLOAT
    for index in range(line.first_part, line.first_part + line.parts):
        part = parts[index]
        x, a = j.grad_low + part.low_column * FLOAT, j.values + part.a + first * ROW_BYTES
        low_stride = j.low_width * FLOAT
        multiply_strided(j.rows, x, low_stride, number(FLOAT), a, stride, part.rank, count, out, stride, out, stride)
