"""Attention over a token tree, forward and backward (`train.layers.attention` says what a tree is).

Tokens stand depth first, so those that see key k are k to until[k] - 1. Keys and values are laid out as panels of 16
tokens; panels that no query of a block sees are left out, and single tokens are masked. The backward pass goes twice
over the scores, by blocks of queries for their gradient and by panels of keys for theirs: nobody adds to what another
writes, so sums have one order whatever the number of threads (Dao, 2023, arXiv:2307.08691, recomputes likewise).
"""

import math

from numpy import float32

from tunesmith.kernels.compiled import compiled, number
from tunesmith.kernels.elementwise import exp, floats, rms_norm, rms_norm_back_in_place, table, turn, turn_back
from tunesmith.kernels.multiply import multiply_float32, multiply_strided
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.train_args import KEY_ROWS, QUERY_TOKENS, Step, TrainLayer
from tunesmith.kernels.vectors import LANES

FLOAT = 4
ROW_BYTES = LANES * FLOAT
_NEVER = float32(-1e30)
_NONE = float32(0.0)


@compiled
def _qkv_stride(j: Step) -> int:
    return (j.heads + 2 * j.kv_heads) * j.head * FLOAT


@compiled
def turn_rows(j: Step, counter: int, layer: TrainLayer) -> None:
    """Queries and keys normed and turned, keys as panels; a piece is a panel of tokens."""
    panel = claim(counter)
    while panel < j.panels:
        _turn_panel(j, layer, panel)
        _lay_out(j, layer.qkv + j.heads * j.head * FLOAT, j.key_panels, panel)
        panel = claim(counter)


@compiled
def _turn_panel(j: Step, layer: TrainLayer, panel: int) -> None:
    """qkv of a panel of tokens from what the linears gave."""
    for row in range(panel * LANES, min(panel * LANES + LANES, j.rows)):
        offset, angle = row * _qkv_stride(j), row * j.head * FLOAT
        for head in range(j.heads + j.kv_heads):
            place = offset + head * j.head * FLOAT
            norm = layer.query_norm if head < j.heads else layer.key_norm
            if norm:
                rms_norm(layer.raw + place, layer.qkv + place, norm, j.head, j.eps)
            if layer.turned:
                turn(layer.qkv + place, j.cos + angle, j.sin + angle, j.head)
        if layer.qkv != layer.raw:
            values, size = offset + (j.heads + j.kv_heads) * j.head * FLOAT, j.kv_heads * j.head
            source, target = floats(layer.raw + values, size), floats(layer.qkv + values, size)
            for i in range(size):
                target[i] = source[i]


@compiled
def _turn_back(j: Step, layer: TrainLayer, row: int, head: int, norm: int) -> None:
    """grad_qkv of one query or key head: by what attention sees -> by what the linears gave."""
    place, angle = row * _qkv_stride(j) + head * j.head * FLOAT, row * j.head * FLOAT
    if layer.turned:
        turn_back(j.grad_qkv + place, j.cos + angle, j.sin + angle, j.head)
    if norm:
        rms_norm_back_in_place(layer.raw + place, j.grad_qkv + place, norm, j.head, j.eps)


@compiled
def _lay_out(j: Step, source: int, target: int, panel: int) -> None:
    """One panel of tokens of all key heads: [16, head] -> [head, 16]. `source`: the first token's first head."""
    first = panel * LANES
    for head in range(j.kv_heads):
        panel_numbers = floats(target + (head * j.panels + panel) * j.head * ROW_BYTES, j.head * LANES)
        for lane in range(min(LANES, j.rows - first)):
            numbers = floats(source + (first + lane) * _qkv_stride(j) + head * j.head * FLOAT, j.head)
            for i in range(j.head):
                panel_numbers[i * LANES + lane] = numbers[i]


@compiled
def prepare_back(j: Step, counter: int, layer: TrainLayer) -> None:
    """Keys and values as panels, and delta; what norms made is made again; a piece is a panel of tokens."""
    panel = claim(counter)
    while panel < j.panels:
        if layer.qkv != layer.raw:
            _turn_panel(j, layer, panel)
        keys = layer.qkv + j.heads * j.head * FLOAT
        _lay_out(j, keys, j.key_panels, panel)
        _lay_out(j, keys + j.kv_heads * j.head * FLOAT, j.value_panels, panel)
        for row in range(panel * LANES, min(panel * LANES + LANES, j.rows)):
            for head in range(j.heads):
                place = (row * j.heads + head) * j.head * FLOAT
                answer, grad = floats(layer.attended + place, j.head), floats(j.grad_attended + place, j.head)
                total = _NONE
                for i in range(j.head):
                    total += answer[i] * grad[i]
                floats(j.delta + (row * j.heads + head) * FLOAT, number(1))[0] = total
        panel = claim(counter)


@compiled
def attend(j: Step, counter: int, layer: TrainLayer, scratch: int) -> None:
    """A piece is a block of tokens of one head."""
    piece = claim(counter)
    while piece < -(-j.rows // QUERY_TOKENS) * j.heads:
        # The last blocks see the most keys: they go first, so that no thread is left alone with one.
        block = -(-j.rows // QUERY_TOKENS) - 1 - piece // j.heads
        _attend_block(j, layer, block * QUERY_TOKENS, piece % j.heads, scratch)
        piece = claim(counter)


@compiled
def _next_run(j: Step, panel: int, last: int, token: int) -> tuple[int, int]:
    """The next panels, from `panel` on, with keys that tokens from `token` on may see: (first, end)."""
    until = table(j.panel_until, j.panels, 1)
    while panel < last and until[panel, 0] <= token:
        panel += 1
    end = panel
    while end < last and until[end, 0] > token:
        end += 1
    return panel, end


@compiled
def _scores(j: Step, first: int, count: int, x: int, stride: int, panels: int, target: int) -> None:
    """[count, 16 * j.panels], where there are keys to see: rows at `x` times panels."""
    last, width = (first + count - 1) // LANES + 1, j.panels * ROW_BYTES
    size = j.head * ROW_BYTES
    begin, end = _next_run(j, number(0), last, first)
    while begin < last:
        out = target + begin * ROW_BYTES
        none = number(0)
        multiply_float32(count, x, stride, panels + begin * size, size, j.head, end - begin, out, width, none, none)
        begin, end = _next_run(j, end, last, first)


@compiled
def _attend_block(j: Step, layer: TrainLayer, first: int, head: int, scratch: int) -> None:
    count, kv_head = min(QUERY_TOKENS, j.rows - first), head // (j.heads // j.kv_heads)
    stride, width = _qkv_stride(j), j.panels * ROW_BYTES
    queries = layer.qkv + first * stride + head * j.head * FLOAT
    keys = j.key_panels + kv_head * j.panels * j.head * ROW_BYTES
    values = layer.qkv + (j.heads + j.kv_heads + kv_head) * j.head * FLOAT
    _scores(j, first, count, queries, stride, keys, scratch)
    last = (first + count - 1) // LANES + 1
    for i in range(count):
        _softmax(j, layer, first, first + i, head, scratch + i * width, last)
    out = layer.attended + (first * j.heads + head) * j.head * FLOAT
    _weighted(j, first, count, scratch, values, stride, out)


@compiled
def _weighted(j: Step, first: int, count: int, weights: int, source: int, stride: int, out: int) -> None:
    """out [count, head] = weights @ rows of the source, over the panels that are seen."""
    last, out_stride = (first + count - 1) // LANES + 1, j.heads * j.head * FLOAT
    width, step = j.panels * ROW_BYTES, number(FLOAT)
    addend = number(0)
    begin, end = _next_run(j, number(0), last, first)
    while begin < last:
        length = min(end * LANES, j.rows) - begin * LANES
        x, w = weights + begin * ROW_BYTES, source + begin * LANES * stride
        multiply_strided(count, x, width, step, w, stride, length, j.head // LANES, out, out_stride, addend, out_stride)
        addend = out
        begin, end = _next_run(j, end, last, first)


@compiled
def _softmax(j: Step, layer: TrainLayer, block: int, token: int, head: int, address: int, last: int) -> None:
    """Scores of one query in place; those of keys that it does not see become 0. `block`: first token of its block."""
    until, scores = table(j.until, j.panels * LANES, 1), floats(address, j.panels * LANES)
    scale = float32(1.0 / math.sqrt(j.head))
    largest = _NEVER
    begin, end = _next_run(j, number(0), last, block)
    while begin < last:
        for k in range(begin * LANES, end * LANES):
            scores[k] = scores[k] * scale if k <= token and until[k, 0] > token else _NEVER
        for k in range(begin * LANES, end * LANES):
            largest = max(largest, scores[k])
        begin, end = _next_run(j, end, last, block)
    total = _NONE
    begin, end = _next_run(j, number(0), last, block)
    while begin < last:
        for k in range(begin * LANES, end * LANES):
            scores[k] = exp(scores[k] - largest)
        for k in range(begin * LANES, end * LANES):
            scores[k] = scores[k] if k <= token and until[k, 0] > token else _NONE
            total += scores[k]
        begin, end = _next_run(j, end, last, block)
    inverse = float32(1.0) / total
    begin, end = _next_run(j, number(0), last, block)
    while begin < last:
        for k in range(begin * LANES, end * LANES):
            scores[k] *= inverse
        begin, end = _next_run(j, end, last, block)
    floats(layer.lse + (token * j.heads + head) * FLOAT, number(1))[0] = largest + float32(math.log(total))


@compiled
def attend_back(j: Step, counter: int, layer: TrainLayer, scratch: int) -> None:
    """grad_qkv; a piece is a block of tokens of one head, or a panel of keys of one key head."""
    query_pieces = -(-j.rows // QUERY_TOKENS) * j.heads
    piece = claim(counter)
    while piece < query_pieces + j.panels * j.kv_heads:
        if piece < query_pieces:
            block = -(-j.rows // QUERY_TOKENS) - 1 - piece // j.heads
            _queries_back(j, layer, block * QUERY_TOKENS, piece % j.heads, scratch)
        else:
            piece -= query_pieces
            _keys_back(j, layer, piece // j.kv_heads, piece % j.kv_heads, scratch)
        piece = claim(counter)


@compiled
def _queries_back(j: Step, layer: TrainLayer, first: int, head: int, scratch: int) -> None:
    count, kv_head = min(QUERY_TOKENS, j.rows - first), head // (j.heads // j.kv_heads)
    stride, width, out_stride = _qkv_stride(j), j.panels * ROW_BYTES, j.heads * j.head * FLOAT
    slopes = scratch + QUERY_TOKENS * width
    panels = kv_head * j.panels * j.head * ROW_BYTES
    _scores(j, first, count, layer.qkv + first * stride + head * j.head * FLOAT, stride, j.key_panels + panels, scratch)
    grads = j.grad_attended + (first * j.heads + head) * j.head * FLOAT
    _scores(j, first, count, grads, out_stride, j.value_panels + panels, slopes)
    last = (first + count - 1) // LANES + 1
    for i in range(count):
        place = ((first + i) * j.heads + head) * FLOAT
        lse, delta = floats(layer.lse + place, number(1))[0], floats(j.delta + place, number(1))[0]
        begin, end = _next_run(j, number(0), last, first)
        while begin < last:
            offset, length = i * width + begin * ROW_BYTES, (end - begin) * LANES
            _slopes(j, scratch + offset, slopes + offset, begin * LANES, length, first + i, lse, delta)
            begin, end = _next_run(j, end, last, first)
    # The answer's own stride is that of `attended`: it is made in the scratch and moved.
    answer = slopes + QUERY_TOKENS * width
    keys = layer.qkv + (j.heads + kv_head) * j.head * FLOAT
    _weighted(j, first, count, slopes, keys, stride, answer)
    for i in range(count):
        source = floats(answer + i * out_stride, j.head)
        target = floats(j.grad_qkv + (first + i) * stride + head * j.head * FLOAT, j.head)
        for k in range(j.head):
            target[k] = source[k]
        _turn_back(j, layer, first + i, head, layer.query_norm)


@compiled
def _slopes(
    j: Step, scores: int, slopes: int, first_key: int, length: int, token: int, lse: float32, delta: float32
) -> None:
    """In place: scores -> probabilities, gradients by these -> gradients by the scores. Of one query."""
    until, p, g = table(j.until, j.panels * LANES, 1), floats(scores, length), floats(slopes, length)
    scale = float32(1.0 / math.sqrt(j.head))
    for k in range(length):
        p[k] = exp(p[k] * scale - lse)
    for k in range(length):
        seen = first_key + k <= token and until[first_key + k, 0] > token
        p[k] = p[k] if seen else _NONE
        g[k] = p[k] * (g[k] - delta) * scale


@compiled
def _keys_back(j: Step, layer: TrainLayer, panel: int, kv_head: int, scratch: int) -> None:
    """Gradients of 16 keys and values of one head, from all queries that see them."""
    key, group, stride = panel * LANES, j.heads // j.kv_heads, _qkv_stride(j)
    keys, out_stride, step = min(LANES, j.rows - key), j.heads * j.head * FLOAT, number(FLOAT)
    panels = (kv_head * j.panels + panel) * j.head * ROW_BYTES
    by_key = j.grad_qkv + key * stride + (j.heads + kv_head) * j.head * FLOAT
    by_value = by_key + j.kv_heads * j.head * FLOAT
    slopes, size, one, none = scratch + KEY_ROWS * ROW_BYTES, j.head * ROW_BYTES, number(1), number(0)
    width, row_bytes, begun = j.head // LANES, number(ROW_BYTES), none
    end = table(j.panel_until, j.panels, 1)[panel, 0]
    first = key
    while first < end:
        count = min(KEY_ROWS, end - first)
        for head in range(kv_head * group, kv_head * group + group):
            queries = layer.qkv + first * stride + head * j.head * FLOAT
            grads = j.grad_attended + (first * j.heads + head) * j.head * FLOAT
            k, v = j.key_panels + panels, j.value_panels + panels
            multiply_float32(count, queries, stride, k, size, j.head, one, scratch, row_bytes, none, none)
            multiply_float32(count, grads, out_stride, v, size, j.head, one, slopes, row_bytes, none, none)
            for i in range(count):
                place = ((first + i) * j.heads + head) * FLOAT
                lse, delta = floats(layer.lse + place, one)[0], floats(j.delta + place, one)[0]
                offset = i * row_bytes
                _slopes(j, scratch + offset, slopes + offset, key, number(LANES), first + i, lse, delta)
            value_sum, key_sum = (by_value, by_key) if begun else (none, none)
            multiply_strided(
                keys, scratch, step, row_bytes, grads, out_stride, count, width, by_value, stride, value_sum, stride
            )
            multiply_strided(
                keys, slopes, step, row_bytes, queries, stride, count, width, by_key, stride, key_sum, stride
            )
            begun = one
        first += count
    for i in range(keys):
        _turn_back(j, layer, key + i, j.heads + kv_head, layer.key_norm)
