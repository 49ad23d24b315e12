"""Rotary embedding, and attention over keys and values that are kept in panels.

A slot's keys are panels of 16 positions and its values panels of 16 columns, so that scores and their weighted sums are
products with panels like any other. Query heads that share a key head are computed together.
"""

from numpy import float32, int64
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import floats, rms_norm, rotate, soft_cap, softmax, table
from tunesmith.kernels.multiply import multiply
from tunesmith.kernels.serving.step_args import (
    CHUNK_COLUMNS,
    CHUNK_FIRST_BLOCK,
    CHUNK_NEW,
    CHUNK_ROW,
    CHUNK_SLOT,
    CHUNK_START,
    QUERY_ROWS,
    Layer,
    StepArgs,
)
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES


@compiled
def rotate_rows(args: StepArgs, counter: int, layer: Layer) -> None:
    """Rotates queries and keys, and writes keys and values to their slots.

    Families with norms of queries and keys apply these first. A piece of work is a row of args.qkv, whose queries and
    keys are changed in place.
    """
    positions, slots = table(args.positions, args.rows, 1), table(args.slots, args.rows, 1)
    row = claim(counter)
    while row < args.rows:
        base = args.qkv + row * args.qkv_stride
        if args.wide_norms:
            keys = base + args.key_column * FLOAT_BYTES
            rms_norm(base, base, layer.query_norm, args.heads * args.head_size, args.eps)
            rms_norm(keys, keys, layer.key_norm, args.kv_heads * args.head_size, args.eps)
        for head in range(args.heads):
            _norm_and_rotate(args, layer, row, base + head * args.head_size * FLOAT_BYTES, layer.query_norm)
        position, slot = positions[row, 0], slots[row, 0]
        for head in range(args.kv_heads):
            key = base + (args.key_column + head * args.head_size) * FLOAT_BYTES
            _norm_and_rotate(args, layer, row, key, layer.key_norm)
            block = (slot * args.kv_heads + head) * args.capacity
            _write(args, layer, block, position, key, key + (args.value_column - args.key_column) * FLOAT_BYTES)
        row = claim(counter)


@compiled
def _norm_and_rotate(args: StepArgs, layer: Layer, row: int, address: int, norm: int) -> None:
    """Of one head [head_size] of a row, in place."""
    if norm and not args.wide_norms:
        rms_norm(address, address, norm, args.head_size, args.eps)
    if layer.rotation:
        angle = ((layer.rotation - 1) * args.rows + row) * args.rotary_size * FLOAT_BYTES
        rotate(address, args.cos + angle, args.sin + angle, args.rotary_size)


@compiled
def _write(args: StepArgs, layer: Layer, block: int, position: int, key: int, value: int) -> None:
    """Writes one key and value [head_size] to the cache.

    `block` counts the positions of all heads and slots before these.
    """
    source = floats(key, args.head_size)
    place = block * args.head_size + position // LANES * LANES * args.head_size + position % LANES
    target = floats(layer.keys + place * FLOAT_BYTES, args.head_size * LANES - position % LANES)
    for i in range(args.head_size):
        target[i * LANES] = source[i]
    source = floats(value, args.head_size)
    for panel in range(args.head_panels):
        first = panel * LANES
        place = ((block * args.head_panels) + panel * args.capacity + position) * LANES
        target = floats(layer.values + place * FLOAT_BYTES, LANES)
        for i in range(min(LANES, args.head_size - first)):
            target[i] = source[first + i]


@compiled
def attend(args: StepArgs, counter: int, layer: Layer, scratch: int) -> None:
    """args.attended = softmax(q @ k^T * score_scale) @ v.

    Each token sees its slot up to its own position, or the layer's window of it. A piece of work is up to QUERY_ROWS
    queries of one chunk and one key head. `scratch`: memory of this thread.
    """
    chunks = table(args.chunk_table, args.chunks, CHUNK_COLUMNS)
    piece = claim(counter)
    while piece < args.blocks * args.kv_heads:
        block, head = piece // args.kv_heads, piece % args.kv_heads
        index = 0
        while index + 1 < args.chunks and chunks[index + 1, CHUNK_FIRST_BLOCK] <= block:
            index += 1
        chunk = chunks[index]
        _attend_block(args, layer, chunk, (block - chunk[CHUNK_FIRST_BLOCK]) * QUERY_ROWS, head, scratch)
        piece = claim(counter)


@compiled
def _attend_block(args: StepArgs, layer: Layer, chunk: NDArray[int64], first: int, head: int, scratch: int) -> None:
    """Computes a block of queries from `first` on.

    A chunk's queries are counted token by token, and within a token by the heads that share the key head. With a window
    panels of keys that no query of the block sees are left out: sums that begin with zeros have the same bits.
    """
    group, size, head_bytes = args.heads // args.kv_heads, args.head_size, args.head_size * FLOAT_BYTES
    count = min(QUERY_ROWS, chunk[CHUNK_NEW] * group - first)
    queries, outputs = scratch, scratch + QUERY_ROWS * head_bytes
    output_stride = args.head_panels * PANEL_ROW_BYTES
    scores = outputs + QUERY_ROWS * output_stride
    scale = float32(args.score_scale)
    none = number(0)
    for i in range(count):
        token, member = (first + i) // group, (first + i) % group
        row = args.qkv + (chunk[CHUNK_ROW] + token) * args.qkv_stride
        source = floats(row + (head * group + member) * head_bytes, size)
        target = floats(queries + i * head_bytes, size)
        for d in range(size):
            target[d] = source[d] * scale
    begin = number(0)
    end = chunk[CHUNK_START] + (first + count - 1) // group + 1
    if layer.window:
        begin = max(chunk[CHUNK_START] + first // group + 1 - layer.window, 0) // LANES * LANES
    panels = -(-end // LANES) - begin // LANES
    score_stride, key_stride, value_stride = (
        panels * PANEL_ROW_BYTES,
        LANES * head_bytes,
        args.capacity * PANEL_ROW_BYTES,
    )
    block = (chunk[CHUNK_SLOT] * args.kv_heads + head) * args.capacity
    keys = layer.keys + (block + begin) * head_bytes
    values = layer.values + block * output_stride + begin * PANEL_ROW_BYTES
    multiply(none, count, queries, head_bytes, keys, key_stride, size, panels, scores, score_stride, none, none)
    for i in range(count):
        seen = chunk[CHUNK_START] + (first + i) // group + 1
        _weights(args, layer, scores + i * score_stride, begin, seen, end)
    wide = args.head_panels
    length = end - begin
    multiply(none, count, scores, score_stride, values, value_stride, length, wide, outputs, output_stride, none, none)
    for i in range(count):
        token, member = (first + i) // group, (first + i) % group
        source = floats(outputs + i * output_stride, size)
        row = args.attended + (chunk[CHUNK_ROW] + token) * args.heads * head_bytes
        target = floats(row + (head * group + member) * head_bytes, size)
        for d in range(size):
            target[d] = source[d]


@compiled
def _weights(args: StepArgs, layer: Layer, scores: int, begin: int, seen: int, end: int) -> None:
    """Softmax of one query's scores of the positions from `begin` to `end`, in place.

    Positions from `seen` on, and those before the layer's window, get the weight 0.
    """
    if args.score_cap:
        soft_cap(floats(scores, seen - begin), float32(args.score_cap))
    hidden = number(0)
    if layer.window:
        hidden = max(seen - layer.window - begin, 0)
        before = floats(scores, hidden)
        for i in range(hidden):
            before[i] = float32(0.0)
    softmax(floats(scores + hidden * FLOAT_BYTES, end - begin - hidden), seen - begin - hidden)
