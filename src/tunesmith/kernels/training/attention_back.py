"""Attention over a token tree, backward.

The scores are computed once more, by panels of 16 keys: their rows are keys and their columns queries, so that a key is
seen by a range of columns and needs no mask, unless the layer has a window. A panel's piece of work adds the gradients
of its keys and values, and leaves the scores' gradients in memory, from which those of the queries are made when all
panels are done. No thread adds to what another writes, so sums have one order whatever the number of threads.

The scores' gradients of all heads may not fit into the cache. So heads and queries are divided into ranges, which
follow one another: some key heads with their queries or, of long rows, one key head and some queries. What a range is
follows from the number of rows and heads alone.
"""

from numpy import float32
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import exp, floats, soft_cap, table
from tunesmith.kernels.multiply import multiply_columns, multiply_float32
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.training.attention import lowest_seen, next_run
from tunesmith.kernels.training.heads import (
    copied_bytes,
    head_bytes,
    qkv_stride,
    rotate_head_back,
    rotate_panel,
    to_columns,
    to_panels,
)
from tunesmith.kernels.training.phase_times import Share, meet
from tunesmith.kernels.training.step_args import KEY_ROWS, TrainLayer, TrainStepArgs
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES

_ZERO, _ONE = float32(0.0), float32(1.0)
_SQUARE = LANES * PANEL_ROW_BYTES


@compiled
def prepare_back(args: TrainStepArgs, counter: int, layer: TrainLayer) -> None:
    """Copies what `attend_back` reads to panels and columns, and computes delta.

    With norms of heads qkv is computed again first. A piece of work is a panel of tokens.
    """
    panel = claim(counter)
    while panel < args.panels:
        if layer.qkv != layer.raw:
            rotate_panel(args, layer, panel)
        stride, grad_stride = qkv_stride(args), args.heads * head_bytes(args)
        to_panels(args, layer.qkv, stride, args.heads, args.query_panels, panel)
        to_columns(args, layer.qkv, stride, args.heads, args.query_columns, panel)
        to_columns(args, layer.qkv + grad_stride, stride, args.kv_heads, args.key_columns, panel)
        to_panels(args, args.grad_attended, grad_stride, args.heads, args.grad_panels, panel)
        to_columns(args, args.grad_attended, grad_stride, args.heads, args.grad_columns, panel)
        for row in range(panel * LANES, min(panel * LANES + LANES, args.rows)):
            for head in range(args.heads):
                place = (row * args.heads + head) * head_bytes(args)
                output = floats(layer.attended + place, args.head_size)
                grad = floats(args.grad_attended + place, args.head_size)
                total = _ZERO
                for i in range(args.head_size):
                    total += output[i] * grad[i]
                floats(args.delta + (head * args.rows + row) * FLOAT_BYTES, number(1))[0] = total
        panel = claim(counter)


@compiled
def attend_back(args: TrainStepArgs, counter: int, threads: int, times: int, layer: TrainLayer, scratch: int) -> None:
    """grad_qkv from grad_attended, lse and delta.

    A piece of work is a panel of keys of one key head, or later a panel of queries of one head, of one range. All
    threads meet between these.
    """
    piece, done = claim(counter), 0
    for kv_head in range(0, args.kv_heads, args.range_heads):
        heads = min(args.range_heads, args.kv_heads - kv_head)
        for first in range(0, args.panels, args.range_panels):
            last = min(first + args.range_panels, args.panels)
            while piece < done + last * heads:  # keys of later panels are not seen
                index = piece - done
                _keys_back(args, layer, index // heads, kv_head, kv_head + index % heads, first, last, scratch)
                piece = claim(counter)
            done += last * heads
            meet(args.pool, threads, times, Share.ATTENTION_BACK)
            group = args.heads // args.kv_heads * heads
            while piece < done + (last - first) * group:
                index = piece - done
                panel = last - 1 - index // group  # the last ones see the most keys and go first
                _queries_back(args, layer, panel, kv_head, index % group, first)
                piece = claim(counter)
            done += (last - first) * group
            meet(args.pool, threads, times, Share.ATTENTION_BACK)


@compiled
def _score_grads(args: TrainStepArgs, head: int, query_panel: int, key: int) -> int:
    """The address of 16 queries' gradients of their scores with a key.

    `head` and `query_panel` are counted from the range's first. They are laid out [heads, query panels, tokens, 16].
    """
    return args.score_grads + ((head * args.range_panels + query_panel) * args.panels * LANES + key) * PANEL_ROW_BYTES


@compiled
def _keys_back(
    args: TrainStepArgs,
    layer: TrainLayer,
    panel: int,
    first_head: int,
    kv_head: int,
    range_first: int,
    range_last: int,
    scratch: int,
) -> None:
    """Adds the gradients of 16 keys and values of one head, from the queries of a range of panels.

    `first_head`: the range's first key head.
    """
    end_panel = -(-table(args.panel_until, args.panels, 1)[panel, 0] // LANES)
    high = table(args.panel_high, args.panels, 1)[panel, 0]
    first, last = max(panel, range_first), min(end_panel, range_last)
    if first >= last:
        return
    group, key, stride, none = args.heads // args.kv_heads, panel * LANES, qkv_stride(args), number(0)
    keys, width, columns = min(LANES, args.rows - key), KEY_ROWS * FLOAT_BYTES, args.head_size // LANES
    key_place = layer.qkv + key * stride + (args.heads + kv_head) * head_bytes(args)
    value_place = key_place + args.kv_heads * head_bytes(args)
    grad_key = args.grad_qkv + (key_place - layer.qkv)
    grad_value = args.grad_qkv + (value_place - layer.qkv)
    score_grads, size = scratch + LANES * width, args.head_size * PANEL_ROW_BYTES
    begun = range_first > panel
    for block in range(first, last, KEY_ROWS // LANES):
        panels = min(KEY_ROWS // LANES, last - block)
        token, column = block * LANES, args.panels * _SQUARE
        length = min(panels * LANES, args.rows - token)
        if lowest_seen(args, layer, token, length) > high:
            continue  # as `_queries_back` leaves it out
        for member in range(group):
            head = kv_head * group + member
            offset = head * copied_bytes(args) + block * size
            q, g = args.query_panels + offset, args.grad_panels + offset
            multiply_float32(keys, key_place, stride, q, size, args.head_size, panels, scratch, width, none, none)
            multiply_float32(keys, value_place, stride, g, size, args.head_size, panels, score_grads, width, none, none)
            _through_softmax(args, layer, scratch, score_grads, key, head, token, panels)
            here = (kv_head - first_head) * group + member
            for query_panel in range(panels):
                target = _score_grads(args, here, block - range_first + query_panel, key)
                _copy_square(score_grads + query_panel * PANEL_ROW_BYTES, width, target)
            value_sum, key_sum = (grad_value, grad_key) if begun else (none, none)
            offset = head * copied_bytes(args) + block * _SQUARE
            q, g = args.query_columns + offset, args.grad_columns + offset
            multiply_float32(keys, scratch, width, g, column, length, columns, grad_value, stride, value_sum, stride)
            multiply_float32(keys, score_grads, width, q, column, length, columns, grad_key, stride, key_sum, stride)
            begun = True
    if last == end_panel:
        for i in range(keys):
            rotate_head_back(args, layer, key + i, args.heads + kv_head, layer.key_norm)


@compiled
def _copy_square(source: int, stride: int, target: int) -> None:
    """Copies 16 rows of 16 numbers to one another's sides."""
    for row in range(LANES):
        numbers, copy = (
            floats(source + row * stride, number(LANES)),
            floats(target + row * PANEL_ROW_BYTES, number(LANES)),
        )
        for i in range(LANES):
            copy[i] = numbers[i]


@compiled
def _through_softmax(
    args: TrainStepArgs, layer: TrainLayer, scores: int, grads: int, key: int, head: int, token: int, panels: int
) -> None:
    """Turns scores to probabilities, and these ones' gradients to those of the scores; 0 where a key is not seen.

    Both are [16, 16 * panels]: rows of keys from `key` on, columns of queries from `token` on.
    """
    until, size, scale = table(args.until, args.panels * LANES, 1), panels * LANES, float32(args.score_scale)
    cut = _first_cut(args, layer, token // LANES, panels)
    for lane in range(LANES):
        row = lane * KEY_ROWS * FLOAT_BYTES
        first = min(max(key + lane - token, 0), size)
        last = max(min(until[key + lane, 0] - token, size), first)
        _set_zero(scores + row, grads + row, first)
        _set_zero(scores + row + last * FLOAT_BYTES, grads + row + last * FLOAT_BYTES, size - last)
        here, place = row + first * FLOAT_BYTES, (head * args.rows + token + first) * FLOAT_BYTES
        p, g = floats(scores + here, last - first), floats(grads + here, last - first)
        lse, delta = floats(layer.lse + place, last - first), floats(args.delta + place, last - first)
        if args.score_cap:
            _through_cap(args, p, g, lse, delta)
        else:
            for i in range(last - first):
                p[i] = exp(p[i] * scale - lse[i])
            for i in range(last - first):
                g[i] = p[i] * (g[i] - delta[i]) * scale
        if table(args.positions, args.panels * LANES, 1)[key + lane, 0] < cut:
            _through_window(args, layer, scores + here, grads + here, key + lane, token + first, last - first)


@compiled
def _through_cap(
    args: TrainStepArgs, p: NDArray[float32], g: NDArray[float32], lse: NDArray[float32], delta: NDArray[float32]
) -> None:
    """The same of one row of scores that are capped."""
    scale, cap = float32(args.score_scale), float32(args.score_cap)
    for i in range(len(p)):
        p[i] *= scale
    soft_cap(p, cap)
    for i in range(len(p)):
        share, weight = p[i] / cap, exp(p[i] - lse[i])
        g[i] = weight * (g[i] - delta[i]) * (scale * (_ONE - share * share))
        p[i] = weight


@compiled
def _first_cut(args: TrainStepArgs, layer: TrainLayer, panel: int, panels: int) -> int:
    """Keys at lower positions are before the window of some query of these panels; 0 without a window."""
    if layer.window == 0:
        return number(0)
    high = table(args.panel_high, args.panels, 1)
    highest: int = high[panel, 0]
    for other in range(panel + 1, panel + panels):
        highest = max(highest, high[other, 0])
    cut: int = highest - layer.window + 1
    return cut


@compiled
def _through_window(
    args: TrainStepArgs, layer: TrainLayer, scores: int, grads: int, key: int, token: int, count: int
) -> None:
    """Sets 0 where `count` queries from `token` on do not see a key, which is before their window."""
    positions = table(args.positions, args.panels * LANES, 1)
    p, g, least = floats(scores, count), floats(grads, count), positions[key, 0] + layer.window
    for i in range(count):
        if positions[token + i, 0] >= least:
            p[i] = _ZERO
            g[i] = _ZERO


@compiled
def _set_zero(scores: int, grads: int, count: int) -> None:
    p, g = floats(scores, count), floats(grads, count)
    for i in range(count):
        p[i] = _ZERO
        g[i] = _ZERO


@compiled
def _queries_back(
    args: TrainStepArgs, layer: TrainLayer, panel: int, first_kv_head: int, head: int, range_first: int
) -> None:
    """The gradients of 16 queries of one head; `head` is counted from the range's first."""
    first, none = panel * LANES, number(0)
    group, stride = args.heads // args.kv_heads, qkv_stride(args)
    count, last, addend = min(LANES, args.rows - first), panel + 1, none
    actual = first_kv_head * group + head
    out = args.grad_qkv + first * stride + actual * head_bytes(args)
    keys = args.key_columns + actual // group * copied_bytes(args)
    lowest = lowest_seen(args, layer, first, count)
    begin, end = next_run(args, none, last, first, lowest)
    while begin < last:
        key = begin * LANES
        x, w = _score_grads(args, head, panel - range_first, key), keys + key * PANEL_ROW_BYTES
        length = min(end * LANES, args.rows) - key
        step, row, column, columns = (
            number(FLOAT_BYTES),
            number(PANEL_ROW_BYTES),
            args.panels * _SQUARE,
            args.head_size // LANES,
        )
        multiply_columns(count, x, step, row, w, column, length, columns, out, stride, addend, stride)
        addend = out
        begin, end = next_run(args, end, last, first, lowest)
    for i in range(count):
        rotate_head_back(args, layer, first + i, actual, layer.query_norm)
