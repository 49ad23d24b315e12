"""Attention over a token tree, forward and backward.

`train.layers.attention` says what a tree is. Tokens are in depth-first order, so those that see key k are k to until[k]
- 1. Keys and values are copied to panels of 16 tokens; panels that no query of a block sees are skipped, and single
tokens are masked. The backward pass computes the scores twice, by blocks of queries for the queries' gradient and by
panels of keys for theirs: no thread adds to what another writes, so sums have one order whatever the number of threads
(Dao, 2023, arXiv:2307.08691, recomputes likewise).
"""

import math

from numpy import float32

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import (
    exp,
    floats,
    rms_norm,
    rms_norm_back_in_place,
    rotate,
    rotate_back,
    rotate_neighbours,
    rotate_neighbours_back,
    table,
)
from tunesmith.kernels.multiply import multiply_float32, multiply_strided
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.training.step_args import KEY_ROWS, QUERY_TOKENS, TrainLayer, TrainStepArgs
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES

_MASKED = float32(-1e30)
_ZERO = float32(0.0)


@compiled
def _qkv_stride(args: TrainStepArgs) -> int:
    """Bytes from one row of qkv to the next."""
    return (args.heads + 2 * args.kv_heads) * _head_bytes(args)


@compiled
def _head_bytes(args: TrainStepArgs) -> int:
    return args.head_size * FLOAT_BYTES


@compiled
def rotate_rows(args: TrainStepArgs, counter: int, layer: TrainLayer) -> None:
    """layer.qkv = layer.raw with queries and keys normalized and rotated.

    Keys are copied to args.key_panels too. A piece of work is a panel of tokens.
    """
    panel = claim(counter)
    while panel < args.panels:
        _rotate_panel(args, layer, panel)
        _to_panels(args, layer.qkv + args.heads * _head_bytes(args), args.key_panels, panel)
        panel = claim(counter)


@compiled
def _rotate_panel(args: TrainStepArgs, layer: TrainLayer, panel: int) -> None:
    """qkv of a panel of tokens, from what the linears computed."""
    for row in range(panel * LANES, min(panel * LANES + LANES, args.rows)):
        offset, angle = row * _qkv_stride(args), row * args.rotary_size * FLOAT_BYTES
        for head in range(args.heads + args.kv_heads):
            place = offset + head * _head_bytes(args)
            norm = layer.query_norm if head < args.heads else layer.key_norm
            if norm:
                rms_norm(layer.raw + place, layer.qkv + place, norm, args.head_size, args.eps)
            if layer.rotated and args.neighbours:
                rotate_neighbours(layer.qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
            elif layer.rotated:
                rotate(layer.qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
        if layer.qkv != layer.raw:
            values, size = offset + (args.heads + args.kv_heads) * _head_bytes(args), args.kv_heads * args.head_size
            source, target = floats(layer.raw + values, size), floats(layer.qkv + values, size)
            for i in range(size):
                target[i] = source[i]


@compiled
def _rotate_head_back(args: TrainStepArgs, layer: TrainLayer, row: int, head: int, norm: int) -> None:
    """Takes grad_qkv of one head back through rotary embedding and norm.

    From the gradient of what attention reads to that of what the linears computed, in place.
    """
    place = row * _qkv_stride(args) + head * _head_bytes(args)
    angle = row * args.rotary_size * FLOAT_BYTES
    if layer.rotated and args.neighbours:
        rotate_neighbours_back(args.grad_qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
    elif layer.rotated:
        rotate_back(args.grad_qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
    if norm:
        rms_norm_back_in_place(layer.raw + place, args.grad_qkv + place, norm, args.head_size, args.eps)


@compiled
def _to_panels(args: TrainStepArgs, source: int, target: int, panel: int) -> None:
    """Copies a panel of tokens of all key heads, [16, head] -> [head, 16].

    `source`: the first token's first head.
    """
    first, size = panel * LANES, args.head_size
    for head in range(args.kv_heads):
        panel_numbers = floats(target + (head * args.panels + panel) * size * PANEL_ROW_BYTES, size * LANES)
        for lane in range(min(LANES, args.rows - first)):
            numbers = floats(source + (first + lane) * _qkv_stride(args) + head * _head_bytes(args), size)
            for i in range(size):
                panel_numbers[i * LANES + lane] = numbers[i]


@compiled
def prepare_back(args: TrainStepArgs, counter: int, layer: TrainLayer) -> None:
    """Copies keys and values to panels, and computes delta.

    With norms of heads qkv is computed again first. A piece of work is a panel of tokens.
    """
    panel = claim(counter)
    while panel < args.panels:
        if layer.qkv != layer.raw:
            _rotate_panel(args, layer, panel)
        keys = layer.qkv + args.heads * _head_bytes(args)
        _to_panels(args, keys, args.key_panels, panel)
        _to_panels(args, keys + args.kv_heads * _head_bytes(args), args.value_panels, panel)
        for row in range(panel * LANES, min(panel * LANES + LANES, args.rows)):
            for head in range(args.heads):
                place = (row * args.heads + head) * _head_bytes(args)
                output = floats(layer.attended + place, args.head_size)
                grad = floats(args.grad_attended + place, args.head_size)
                total = _ZERO
                for i in range(args.head_size):
                    total += output[i] * grad[i]
                floats(args.delta + (row * args.heads + head) * FLOAT_BYTES, number(1))[0] = total
        panel = claim(counter)


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
def _next_run(args: TrainStepArgs, panel: int, last: int, token: int) -> tuple[int, int]:
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
def _scores(args: TrainStepArgs, first: int, count: int, x: int, stride: int, panels: int, target: int) -> None:
    """target [count, 16 * args.panels] = rows at `x` @ panels of keys that are seen.

    The rows are those of tokens from `first` on.
    """
    last, width = (first + count - 1) // LANES + 1, args.panels * PANEL_ROW_BYTES
    size = args.head_size * PANEL_ROW_BYTES
    begin, end = _next_run(args, number(0), last, first)
    while begin < last:
        out = target + begin * PANEL_ROW_BYTES
        w, none = panels + begin * size, number(0)
        multiply_float32(count, x, stride, w, size, args.head_size, end - begin, out, width, none, none)
        begin, end = _next_run(args, end, last, first)


@compiled
def _attend_block(args: TrainStepArgs, layer: TrainLayer, first: int, head: int, scratch: int) -> None:
    count, kv_head = min(QUERY_TOKENS, args.rows - first), head // (args.heads // args.kv_heads)
    stride, width = _qkv_stride(args), args.panels * PANEL_ROW_BYTES
    queries = layer.qkv + first * stride + head * _head_bytes(args)
    keys = args.key_panels + kv_head * args.panels * args.head_size * PANEL_ROW_BYTES
    values = layer.qkv + (args.heads + args.kv_heads + kv_head) * _head_bytes(args)
    _scores(args, first, count, queries, stride, keys, scratch)
    last = (first + count - 1) // LANES + 1
    for i in range(count):
        _softmax(args, layer, first, first + i, head, scratch + i * width, last)
    out = layer.attended + (first * args.heads + head) * _head_bytes(args)
    _weighted(args, first, count, scratch, values, stride, out)


@compiled
def _weighted(args: TrainStepArgs, first: int, count: int, weights: int, source: int, stride: int, out: int) -> None:
    """out [count, head_size] = weights @ rows of the source that are seen."""
    last, out_stride = (first + count - 1) // LANES + 1, args.heads * _head_bytes(args)
    width, step, panels = args.panels * PANEL_ROW_BYTES, number(FLOAT_BYTES), args.head_size // LANES
    addend = number(0)
    begin, end = _next_run(args, number(0), last, first)
    while begin < last:
        length = min(end * LANES, args.rows) - begin * LANES
        x, w = weights + begin * PANEL_ROW_BYTES, source + begin * LANES * stride
        multiply_strided(count, x, width, step, w, stride, length, panels, out, out_stride, addend, out_stride)
        addend = out
        begin, end = _next_run(args, end, last, first)


@compiled
def _softmax(
    args: TrainStepArgs, layer: TrainLayer, block: int, token: int, head: int, address: int, last: int
) -> None:
    """Softmax of one query's scores, in place; 0 for keys that it does not see.

    `block`: the first token of its block. Also writes its layer.lse.
    """
    until, scores = table(args.until, args.panels * LANES, 1), floats(address, args.panels * LANES)
    scale = float32(args.score_scale)
    largest = _MASKED
    begin, end = _next_run(args, number(0), last, block)
    while begin < last:
        for k in range(begin * LANES, end * LANES):
            scores[k] = scores[k] * scale if k <= token and until[k, 0] > token else _MASKED
        for k in range(begin * LANES, end * LANES):
            largest = max(largest, scores[k])
        begin, end = _next_run(args, end, last, block)
    total = _ZERO
    begin, end = _next_run(args, number(0), last, block)
    while begin < last:
        for k in range(begin * LANES, end * LANES):
            scores[k] = exp(scores[k] - largest)
        for k in range(begin * LANES, end * LANES):
            scores[k] = scores[k] if k <= token and until[k, 0] > token else _ZERO
            total += scores[k]
        begin, end = _next_run(args, end, last, block)
    inverse = float32(1.0) / total
    begin, end = _next_run(args, number(0), last, block)
    while begin < last:
        for k in range(begin * LANES, end * LANES):
            scores[k] *= inverse
        begin, end = _next_run(args, end, last, block)
    floats(layer.lse + (token * args.heads + head) * FLOAT_BYTES, number(1))[0] = largest + float32(math.log(total))


@compiled
def attend_back(args: TrainStepArgs, counter: int, layer: TrainLayer, scratch: int) -> None:
    """grad_qkv from grad_attended, lse and delta.

    A piece of work is a block of tokens of one head, or a panel of keys of one key head.
    """
    query_pieces = -(-args.rows // QUERY_TOKENS) * args.heads
    piece = claim(counter)
    while piece < query_pieces + args.panels * args.kv_heads:
        if piece < query_pieces:
            block = -(-args.rows // QUERY_TOKENS) - 1 - piece // args.heads
            _queries_back(args, layer, block * QUERY_TOKENS, piece % args.heads, scratch)
        else:
            piece -= query_pieces
            _keys_back(args, layer, piece // args.kv_heads, piece % args.kv_heads, scratch)
        piece = claim(counter)


@compiled
def _queries_back(args: TrainStepArgs, layer: TrainLayer, first: int, head: int, scratch: int) -> None:
    count, kv_head = min(QUERY_TOKENS, args.rows - first), head // (args.heads // args.kv_heads)
    stride, width, out_stride = _qkv_stride(args), args.panels * PANEL_ROW_BYTES, args.heads * _head_bytes(args)
    score_grads = scratch + QUERY_TOKENS * width
    panels = kv_head * args.panels * args.head_size * PANEL_ROW_BYTES
    queries = layer.qkv + first * stride + head * _head_bytes(args)
    _scores(args, first, count, queries, stride, args.key_panels + panels, scratch)
    grads = args.grad_attended + (first * args.heads + head) * _head_bytes(args)
    _scores(args, first, count, grads, out_stride, args.value_panels + panels, score_grads)
    last = (first + count - 1) // LANES + 1
    for i in range(count):
        place = ((first + i) * args.heads + head) * FLOAT_BYTES
        lse, delta = floats(layer.lse + place, number(1))[0], floats(args.delta + place, number(1))[0]
        begin, end = _next_run(args, number(0), last, first)
        while begin < last:
            offset, length = i * width + begin * PANEL_ROW_BYTES, (end - begin) * LANES
            _score_grads(args, scratch + offset, score_grads + offset, begin * LANES, length, first + i, lse, delta)
            begin, end = _next_run(args, end, last, first)
    # `_weighted` writes rows with the stride of `attended`: into the scratch, to be copied from there.
    result = score_grads + QUERY_TOKENS * width
    keys = layer.qkv + (args.heads + kv_head) * _head_bytes(args)
    _weighted(args, first, count, score_grads, keys, stride, result)
    for i in range(count):
        source = floats(result + i * out_stride, args.head_size)
        target = floats(args.grad_qkv + (first + i) * stride + head * _head_bytes(args), args.head_size)
        for k in range(args.head_size):
            target[k] = source[k]
        _rotate_head_back(args, layer, first + i, head, layer.query_norm)


@compiled
def _score_grads(
    args: TrainStepArgs,
    scores: int,
    score_grads: int,
    first_key: int,
    length: int,
    token: int,
    lse: float32,
    delta: float32,
) -> None:
    """Takes one query's gradients of probabilities back to those of its scores.

    In place; `scores` become probabilities.
    """
    until, p, g = table(args.until, args.panels * LANES, 1), floats(scores, length), floats(score_grads, length)
    scale = float32(args.score_scale)
    for k in range(length):
        p[k] = exp(p[k] * scale - lse)
    for k in range(length):
        seen = first_key + k <= token and until[first_key + k, 0] > token
        p[k] = p[k] if seen else _ZERO
        g[k] = p[k] * (g[k] - delta) * scale


@compiled
def _keys_back(args: TrainStepArgs, layer: TrainLayer, panel: int, kv_head: int, scratch: int) -> None:
    """The gradients of 16 keys and values of one head, from all queries that see them."""
    key, group, stride = panel * LANES, args.heads // args.kv_heads, _qkv_stride(args)
    keys, out_stride, step = min(LANES, args.rows - key), args.heads * _head_bytes(args), number(FLOAT_BYTES)
    panels = (kv_head * args.panels + panel) * args.head_size * PANEL_ROW_BYTES
    grad_key = args.grad_qkv + key * stride + (args.heads + kv_head) * _head_bytes(args)
    grad_value = grad_key + args.kv_heads * _head_bytes(args)
    score_grads, size = scratch + KEY_ROWS * PANEL_ROW_BYTES, args.head_size * PANEL_ROW_BYTES
    one, none = number(1), number(0)
    width, row_bytes, begun = args.head_size // LANES, number(PANEL_ROW_BYTES), none
    end = table(args.panel_until, args.panels, 1)[panel, 0]
    first = key
    while first < end:
        count = min(KEY_ROWS, end - first)
        for head in range(kv_head * group, kv_head * group + group):
            queries = layer.qkv + first * stride + head * _head_bytes(args)
            grads = args.grad_attended + (first * args.heads + head) * _head_bytes(args)
            k, v = args.key_panels + panels, args.value_panels + panels
            multiply_float32(count, queries, stride, k, size, args.head_size, one, scratch, row_bytes, none, none)
            multiply_float32(count, grads, out_stride, v, size, args.head_size, one, score_grads, row_bytes, none, none)
            for i in range(count):
                place = ((first + i) * args.heads + head) * FLOAT_BYTES
                lse, delta = floats(layer.lse + place, one)[0], floats(args.delta + place, one)[0]
                offset = i * row_bytes
                _score_grads(args, scratch + offset, score_grads + offset, key, number(LANES), first + i, lse, delta)
            value_sum, key_sum = (grad_value, grad_key) if begun else (none, none)
            multiply_strided(
                keys, scratch, step, row_bytes, grads, out_stride, count, width, grad_value, stride, value_sum, stride
            )
            multiply_strided(
                keys, score_grads, step, row_bytes, queries, stride, count, width, grad_key, stride, key_sum, stride
            )
            begun = one
        first += count
    for i in range(keys):
        _rotate_head_back(args, layer, key + i, args.heads + kv_head, layer.key_norm)
