"""Attention over a token tree, forward.

`train.layers.attention` says what a tree is. Tokens are in depth-first order, so those that see key k are k to until[k]
- 1. Keys are copied to panels of 16 tokens, and values to columns, 16 numbers of all tokens one after the other: both
products read memory in order, however far apart the rows of qkv are. Panels that no query of a block sees are skipped,
and single tokens are masked only in panels of which a query sees a part. A layer's window counts positions of a row,
which are no places in the tree: it adds a lowest position that is seen to both rules.
"""

import math

from numpy import float32
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import exp, floats, soft_cap, table
from tunesmith.kernels.multiply import multiply_float32
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.training.heads import copied_bytes, head_bytes, qkv_stride
from tunesmith.kernels.training.step_args import QUERY_TOKENS, TrainLayer, TrainStepArgs
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES

_MASKED = float32(-1e30)
_ZERO, _ONE = float32(0.0), float32(1.0)


@compiled
def attend(args: TrainStepArgs, counter: int, layer: TrainLayer, scratch: int) -> None:
    """layer.attended = softmax(capped(q @ k^T * score_scale)) @ v over the tree.

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
def lowest_seen(args: TrainStepArgs, layer: TrainLayer, first: int, count: int) -> int:
    """The lowest position that one of `count` tokens from `first` on sees.

    0 without a window.
    """
    if layer.window == 0:
        return number(0)
    positions = table(args.positions, args.panels * LANES, 1)
    lowest: int = positions[first, 0]
    for token in range(first + 1, first + count):
        lowest = min(lowest, positions[token, 0])
    least: int = max(lowest - layer.window + 1, 0)
    return least


@compiled
def next_run(args: TrainStepArgs, panel: int, last: int, token: int, lowest: int) -> tuple[int, int]:
    """The next run of panels with keys to see: (first, end).

    From `panel` on and before `last`; tokens from `token` on see some of their keys. `lowest`: the lowest position that
    these see.
    """
    until, high = table(args.panel_until, args.panels, 1), table(args.panel_high, args.panels, 1)
    while panel < last and (until[panel, 0] <= token or high[panel, 0] < lowest):
        panel += 1
    end = panel
    while end < last and until[end, 0] > token and high[end, 0] >= lowest:
        end += 1
    return panel, end


@compiled
def _attend_block(args: TrainStepArgs, layer: TrainLayer, first: int, head: int, scratch: int) -> None:
    count, kv_head = min(QUERY_TOKENS, args.rows - first), head // (args.heads // args.kv_heads)
    stride, width = qkv_stride(args), args.panels * PANEL_ROW_BYTES
    queries, lowest = layer.qkv + first * stride + head * head_bytes(args), lowest_seen(args, layer, first, count)
    _scores(args, first, count, lowest, queries, stride, args.key_panels + kv_head * copied_bytes(args), scratch)
    last = (first + count - 1) // LANES + 1
    out, out_stride = layer.attended + (first * args.heads + head) * head_bytes(args), args.heads * head_bytes(args)
    lanes = scratch + QUERY_TOKENS * width
    for i in range(count):
        floats(lanes + i * PANEL_ROW_BYTES, number(1))[0] = _softmax(
            args, layer, first, first + i, head, lowest, scratch + i * width, last, lanes + i * PANEL_ROW_BYTES
        )
    _weighted(args, first, count, lowest, scratch, args.value_columns + kv_head * copied_bytes(args), out)
    for i in range(count):
        scale, numbers = floats(lanes + i * PANEL_ROW_BYTES, number(1))[0], floats(out + i * out_stride, args.head_size)
        for k in range(args.head_size):
            numbers[k] *= scale


@compiled
def _scores(
    args: TrainStepArgs, first: int, count: int, lowest: int, x: int, stride: int, panels: int, target: int
) -> None:
    """target [count, 16 * args.panels] = rows at `x` @ panels of keys that are seen.

    The rows are those of tokens from `first` on; `lowest`: the lowest position that they see.
    """
    last, width = (first + count - 1) // LANES + 1, args.panels * PANEL_ROW_BYTES
    size = args.head_size * PANEL_ROW_BYTES
    begin, end = next_run(args, number(0), last, first, lowest)
    while begin < last:
        out = target + begin * PANEL_ROW_BYTES
        w, none = panels + begin * size, number(0)
        multiply_float32(count, x, stride, w, size, args.head_size, end - begin, out, width, none, none)
        begin, end = next_run(args, end, last, first, lowest)


@compiled
def _weighted(args: TrainStepArgs, first: int, count: int, lowest: int, weights: int, values: int, out: int) -> None:
    """out [count, head_size] = weights @ values that are seen."""
    last, out_stride = (first + count - 1) // LANES + 1, args.heads * head_bytes(args)
    width, column, panels = (
        args.panels * PANEL_ROW_BYTES,
        args.panels * LANES * PANEL_ROW_BYTES,
        args.head_size // LANES,
    )
    addend = number(0)
    begin, end = next_run(args, number(0), last, first, lowest)
    while begin < last:
        length = min(end * LANES, args.rows) - begin * LANES
        x, w = weights + begin * PANEL_ROW_BYTES, values + begin * LANES * PANEL_ROW_BYTES
        multiply_float32(count, x, width, w, column, length, panels, out, out_stride, addend, out_stride)
        addend = out
        begin, end = next_run(args, end, last, first, lowest)


@compiled
def _softmax(
    args: TrainStepArgs,
    layer: TrainLayer,
    block: int,
    token: int,
    head: int,
    lowest: int,
    scores: int,
    last: int,
    lanes: int,
) -> float32:
    """exp(scaled scores - the largest) of one query, in place; 0 for keys that it does not see.

    Returns 1 / their sum, and writes layer.lse. `block`: the first token of its block, which sees positions from
    `lowest` on; `lanes`: memory of 16 numbers.
    """
    scale, largest = float32(args.score_scale), floats(lanes, number(LANES))
    own = lowest_seen(args, layer, token, number(1))
    for lane in range(LANES):
        largest[lane] = _MASKED
    begin, end = next_run(args, number(0), last, block, lowest)
    while begin < last:
        if args.score_cap:
            _cap(args, floats(scores + begin * PANEL_ROW_BYTES, (end - begin) * LANES))
        _mask(args, scores, begin, end, token, own, _MASKED)
        for panel in range(begin, end):
            numbers = floats(scores + panel * PANEL_ROW_BYTES, number(LANES))
            for lane in range(LANES):
                largest[lane] = max(largest[lane], numbers[lane])
        begin, end = next_run(args, end, last, block, lowest)
    most, total = largest[0], _ZERO
    for lane in range(1, LANES):
        most = max(most, largest[lane])
    if args.score_cap:
        scale = _ONE
    begin, end = next_run(args, number(0), last, block, lowest)
    while begin < last:
        # A view from the run's begin: an index that might be negative, for all the compiler knows, is no vector code.
        total += _exponentials(floats(scores + begin * PANEL_ROW_BYTES, (end - begin) * LANES), most, scale)
        _mask(args, scores, begin, end, token, own, _ZERO)
        begin, end = next_run(args, end, last, block, lowest)
    place = layer.lse + (head * args.rows + token) * FLOAT_BYTES
    floats(place, number(1))[0] = most * scale + float32(math.log(total))
    return _ONE / total


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
def _cap(args: TrainStepArgs, scores: NDArray[float32]) -> None:
    """Scales and caps them in place."""
    scale = float32(args.score_scale)
    for k in range(len(scores)):
        scores[k] *= scale
    soft_cap(scores, float32(args.score_cap))


@compiled
def _mask(args: TrainStepArgs, scores: int, begin: int, end: int, token: int, lowest: int, value: float32) -> None:
    """Sets the scores of keys that the token does not see, in the panels of which it sees a part.

    `lowest`: the lowest position that the token sees.
    """
    until, least = table(args.until, args.panels * LANES, 1), table(args.panel_least, args.panels, 1)
    positions, low = table(args.positions, args.panels * LANES, 1), table(args.panel_low, args.panels, 1)
    for panel in range(begin, end):
        if least[panel, 0] <= token or panel * LANES + LANES - 1 > token or low[panel, 0] < lowest:
            numbers = floats(scores + panel * PANEL_ROW_BYTES, number(LANES))
            for lane in range(LANES):
                key = panel * LANES + lane
                if key > token or until[key, 0] <= token or positions[key, 0] < lowest:
                    numbers[lane] = value
