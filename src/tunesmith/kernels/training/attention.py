"""Attention over a token tree, forward.

`train.layers.attention` says what a tree is. Tokens are in depth-first order, so those that see key k are k to until[k]
- 1. Keys are copied to panels of 16 tokens, and values to columns, 16 numbers of all tokens one after the other: both
products read memory in order, however far apart the rows of qkv are. Panels that no query of a block sees are skipped,
and single tokens are masked only in panels of which a query sees a part.
"""

import math

from numpy import float32
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import exp, floats, rms_norm, rotate, rotate_neighbours, table
from tunesmith.kernels.multiply import multiply_float32
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.training.step_args import QUERY_TOKENS, TrainLayer, TrainStepArgs
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES, Number, transposer

_MASKED = float32(-1e30)
_ZERO = float32(0.0)
_transpose = transposer(Number.FLOAT32)


@compiled
def qkv_stride(args: TrainStepArgs) -> int:
    """Bytes from one row of qkv to the next."""
    return (args.heads + 2 * args.kv_heads) * head_bytes(args)


@compiled
def head_bytes(args: TrainStepArgs) -> int:
    """Bytes of one token's head."""
    return args.head_size * FLOAT_BYTES


@compiled
def copied_bytes(args: TrainStepArgs) -> int:
    """Bytes of one head of all tokens, in panels or in columns."""
    return args.panels * args.head_size * PANEL_ROW_BYTES


@compiled
def rotate_rows(args: TrainStepArgs, counter: int, layer: TrainLayer) -> None:
    """layer.qkv = layer.raw with queries and keys normalized and rotated.

    Keys are copied to args.key_panels, and values to args.value_columns. A piece of work is a panel of tokens.
    """
    panel = claim(counter)
    while panel < args.panels:
        rotate_panel(args, layer, panel)
        keys = layer.qkv + args.heads * head_bytes(args)
        to_panels(args, keys, qkv_stride(args), args.kv_heads, args.key_panels, panel)
        values = keys + args.kv_heads * head_bytes(args)
        to_columns(args, values, qkv_stride(args), args.kv_heads, args.value_columns, panel)
        panel = claim(counter)


@compiled
def rotate_panel(args: TrainStepArgs, layer: TrainLayer, panel: int) -> None:
    """The qkv of a panel of tokens, from what the linears computed."""
    for row in range(panel * LANES, min(panel * LANES + LANES, args.rows)):
        offset, angle = row * qkv_stride(args), row * args.rotary_size * FLOAT_BYTES
        for head in range(args.heads + args.kv_heads):
            place = offset + head * head_bytes(args)
            norm = layer.query_norm if head < args.heads else layer.key_norm
            if norm:
                rms_norm(layer.raw + place, layer.qkv + place, norm, args.head_size, args.eps)
            if layer.rotated and args.neighbours:
                rotate_neighbours(layer.qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
            elif layer.rotated:
                rotate(layer.qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
        if layer.qkv != layer.raw:
            values, size = offset + (args.heads + args.kv_heads) * head_bytes(args), args.kv_heads * args.head_size
            source, target = floats(layer.raw + values, size), floats(layer.qkv + values, size)
            for i in range(size):
                target[i] = source[i]


@compiled
def to_panels(args: TrainStepArgs, source: int, stride: int, heads: int, target: int, panel: int) -> None:
    """Copies a panel of tokens of some heads: [16, head] -> [head, 16].

    The target is [heads, panels, head, 16]. `source`: the first token's first head, `stride` bytes before that of the
    second token.
    """
    first, size = panel * LANES, args.head_size
    for head in range(heads):
        place = target + head * copied_bytes(args) + panel * size * PANEL_ROW_BYTES
        here = source + first * stride + head * head_bytes(args)
        if args.rows - first >= LANES:
            for block in range(size // LANES):
                _transpose(here + block * PANEL_ROW_BYTES, stride, place + block * LANES * PANEL_ROW_BYTES)
        else:
            panel_numbers = floats(place, size * LANES)
            for lane in range(args.rows - first):
                numbers = floats(here + lane * stride, size)
                for i in range(size):
                    panel_numbers[i * LANES + lane] = numbers[i]


@compiled
def to_columns(args: TrainStepArgs, source: int, stride: int, heads: int, target: int, panel: int) -> None:
    """Copies a panel of tokens of some heads: [16, head] -> [head / 16, 16, 16].

    The target is [heads, head / 16, tokens, 16]. `source`: as for `to_panels`.
    """
    first = panel * LANES
    for head in range(heads):
        for column in range(args.head_size // LANES):
            place = target + head * copied_bytes(args) + (column * args.panels + panel) * LANES * PANEL_ROW_BYTES
            here = source + first * stride + head * head_bytes(args) + column * PANEL_ROW_BYTES
            for row in range(min(LANES, args.rows - first)):
                numbers, copy = (
                    floats(here + row * stride, number(LANES)),
                    floats(place + row * PANEL_ROW_BYTES, number(LANES)),
                )
                for i in range(LANES):
                    copy[i] = numbers[i]


@compiled
def attend(args: TrainStepArgs, counter: int, layer: TrainLayer, scratch: int) -> None:
    """layer.attended = softmax(q @ k^T * score_scale) @ v over the tree.

    Also layer.lse, for the backward pass. A piece of work is a block of tokens of one head. `scratch`: memory of this
    thread.
    """
    piece = claim(counter)
    while piece < -(-args.rows // QUERY_TOKENS) * args.heads:
        # The last blocks see the most keys and go first, so that no thread is left alone with one at the end.
        block = -(-args.rows // QUERY_TOKENS) - 1 - piece // args.heads
        _attend_block(args, layer, block * QUERY_TOKENS, piece % args.heads, scratch)
        piece = claim(counter)


@compiled
def next_run(args: TrainStepArgs, panel: int, last: int, token: int) -> tuple[int, int]:
    """The next run of panels with keys to see: (first, end).

    From `panel` on and before `last`; tokens from `token` on see some of their keys.
    """
    until = table(args.panel_until, args.panels, 1)
    while panel < last and until[panel, 0] <= token:
        panel += 1
    end = panel
    while end < last and until[end, 0] > token:
        end += 1
    return panel, end


@compiled
def _attend_block(args: TrainStepArgs, layer: TrainLayer, first: int, head: int, scratch: int) -> None:
    count, kv_head = min(QUERY_TOKENS, args.rows - first), head // (args.heads // args.kv_heads)
    stride, width = qkv_stride(args), args.panels * PANEL_ROW_BYTES
    queries = layer.qkv + first * stride + head * head_bytes(args)
    _scores(args, first, count, queries, stride, args.key_panels + kv_head * copied_bytes(args), scratch)
    last = (first + count - 1) // LANES + 1
    out, out_stride = layer.attended + (first * args.heads + head) * head_bytes(args), args.heads * head_bytes(args)
    lanes = scratch + QUERY_TOKENS * width
    for i in range(count):
        floats(lanes + i * PANEL_ROW_BYTES, number(1))[0] = _softmax(
            args, layer, first, first + i, head, scratch + i * width, last, lanes + i * PANEL_ROW_BYTES
        )
    _weighted(args, first, count, scratch, args.value_columns + kv_head * copied_bytes(args), out)
    for i in range(count):
        scale, numbers = floats(lanes + i * PANEL_ROW_BYTES, number(1))[0], floats(out + i * out_stride, args.head_size)
        for k in range(args.head_size):
            numbers[k] *= scale


@compiled
def _scores(args: TrainStepArgs, first: int, count: int, x: int, stride: int, panels: int, target: int) -> None:
    """target [count, 16 * args.panels] = rows at `x` @ panels of keys that are seen.

    The rows are those of tokens from `first` on.
    """
    last, width = (first + count - 1) // LANES + 1, args.panels * PANEL_ROW_BYTES
    size = args.head_size * PANEL_ROW_BYTES
    begin, end = next_run(args, number(0), last, first)
    while begin < last:
        out = target + begin * PANEL_ROW_BYTES
        w, none = panels + begin * size, number(0)
        multiply_float32(count, x, stride, w, size, args.head_size, end - begin, out, width, none, none)
        begin, end = next_run(args, end, last, first)


@compiled
def _weighted(args: TrainStepArgs, first: int, count: int, weights: int, values: int, out: int) -> None:
    """out [count, head_size] = weights @ values that are seen."""
    last, out_stride = (first + count - 1) // LANES + 1, args.heads * head_bytes(args)
    width, column, panels = (
        args.panels * PANEL_ROW_BYTES,
        args.panels * LANES * PANEL_ROW_BYTES,
        args.head_size // LANES,
    )
    addend = number(0)
    begin, end = next_run(args, number(0), last, first)
    while begin < last:
        length = min(end * LANES, args.rows) - begin * LANES
        x, w = weights + begin * PANEL_ROW_BYTES, values + begin * LANES * PANEL_ROW_BYTES
        multiply_float32(count, x, width, w, column, length, panels, out, out_stride, addend, out_stride)
        addend = out
        begin, end = next_run(args, end, last, first)


@compiled
def _softmax(
    args: TrainStepArgs, layer: TrainLayer, block: int, token: int, head: int, scores: int, last: int, lanes: int
) -> float32:
    """exp(scaled scores - the largest) of one query, in place; 0 for keys that it does not see.

    Returns 1 / their sum, and writes layer.lse. `block`: the first token of its block; `lanes`: memory of 16 numbers.
    """
    scale, largest = float32(args.score_scale), floats(lanes, number(LANES))
    for lane in range(LANES):
        largest[lane] = _MASKED
    begin, end = next_run(args, number(0), last, block)
    while begin < last:
        _mask(args, scores, begin, end, token, _MASKED)
        for panel in range(begin, end):
            numbers = floats(scores + panel * PANEL_ROW_BYTES, number(LANES))
            for lane in range(LANES):
                largest[lane] = max(largest[lane], numbers[lane])
        begin, end = next_run(args, end, last, block)
    most, total = largest[0], _ZERO
    for lane in range(1, LANES):
        most = max(most, largest[lane])
    begin, end = next_run(args, number(0), last, block)
    while begin < last:
        # A view from the run's begin: an index that might be negative, for all the compiler knows, is no vector code.
        total += _exponentials(floats(scores + begin * PANEL_ROW_BYTES, (end - begin) * LANES), most, scale)
        _mask(args, scores, begin, end, token, _ZERO)
        begin, end = next_run(args, end, last, block)
    place = layer.lse + (head * args.rows + token) * FLOAT_BYTES
    floats(place, number(1))[0] = most * scale + float32(math.log(total))
    return float32(1.0) / total


@compiled
def _exponentials(scores: NDArray[float32], most: float32, scale: float32) -> float32:
    """exp((scores - most) * scale) in place; their sum, to which what is masked adds less than one rounding."""
    total = _ZERO
    for k in range(len(scores)):
        scores[k] = exp((scores[k] - most) * scale)
    for k in range(len(scores)):
        total += scores[k]
    return total


@compiled
def _mask(args: TrainStepArgs, scores: int, begin: int, end: int, token: int, value: float32) -> None:
    """Sets the scores of keys that the token does not see, in the panels of which it sees a part."""
    until, least = table(args.until, args.panels * LANES, 1), table(args.panel_least, args.panels, 1)
    for panel in range(begin, end):
        if least[panel, 0] <= token or panel * LANES + LANES - 1 > token:
            numbers = floats(scores + panel * PANEL_ROW_BYTES, number(LANES))
            for lane in range(LANES):
                key = panel * LANES + lane
                if key > token or until[key, 0] <= token:
                    numbers[lane] = value
