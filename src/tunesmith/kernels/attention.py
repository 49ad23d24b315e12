"""Rotary embedding, and attention over keys and values that stand in panels.

A slot's keys are panels of 16 positions and its values panels of 16 columns, so that scores and their weighted sums are
products like any other. Query heads that share a key head go through together.
"""

import math

from numpy import float32, int64
from numpy.typing import NDArray

from tunesmith.kernels.compiled import compiled, number
from tunesmith.kernels.elementwise import floats, rms_norm, softmax, table, turn
from tunesmith.kernels.multiply import multiply
from tunesmith.kernels.step_args import (
    FEED_COLUMNS,
    FEED_FIRST_BLOCK,
    FEED_NEW,
    FEED_ROW,
    FEED_SLOT,
    FEED_START,
    QUERY_ROWS,
    Job,
    Layer,
)
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.vectors import LANES


@compiled
def rotate_rows(j: Job, counter: int, layer: Layer) -> None:
    """Queries and keys normed by head where the family does, and turned; keys and values written to their slots."""
    positions, slots = table(j.positions, j.rows, 1), table(j.slots, j.rows, 1)
    row = claim(counter)
    while row < j.rows:
        base = j.qkv + row * j.qkv_stride
        for head in range(j.heads):
            _turn(j, row, base + head * j.head * 4, layer.query_norm)
        position, slot = positions[row, 0], slots[row, 0]
        for head in range(j.kv_heads):
            key = base + (j.key_column + head * j.head) * 4
            _turn(j, row, key, layer.key_norm)
            _write(
                j, layer, (slot * j.kv_heads + head) * j.room, position, key, key + (j.value_column - j.key_column) * 4
            )
        row = claim(counter)


@compiled
def _turn(j: Job, row: int, address: int, norm: int) -> None:
    if norm:
        rms_norm(address, address, norm, j.head, j.eps)
    turn(address, j.cos + row * j.head * 4, j.sin + row * j.head * 4, j.head)


@compiled
def _write(j: Job, layer: Layer, block: int, position: int, key: int, value: int) -> None:
    """`block`: positions of all heads and slots before these."""
    source = floats(key, j.head)
    place = block * j.head + position // LANES * LANES * j.head + position % LANES
    target = floats(layer.keys + place * 4, j.head * LANES - position % LANES)
    for i in range(j.head):
        target[i * LANES] = source[i]
    source = floats(value, j.head)
    for panel in range(j.head_panels):
        first = panel * LANES
        place = ((block * j.head_panels) + panel * j.room + position) * LANES
        target = floats(layer.values + place * 4, LANES)
        for i in range(min(LANES, j.head - first)):
            target[i] = source[first + i]


@compiled
def attend(j: Job, counter: int, layer: Layer, scratch: int) -> None:
    """A piece is up to 8 queries of one feed and one key head. `scratch`: this thread's own."""
    feeds = table(j.feed_table, j.feeds, FEED_COLUMNS)
    piece = claim(counter)
    while piece < j.blocks * j.kv_heads:
        block, head = piece // j.kv_heads, piece % j.kv_heads
        feed = 0
        while feed + 1 < j.feeds and feeds[feed + 1, FEED_FIRST_BLOCK] <= block:
            feed += 1
        _attend_block(j, layer, feeds[feed], (block - feeds[feed, FEED_FIRST_BLOCK]) * QUERY_ROWS, head, scratch)
        piece = claim(counter)


@compiled
def _attend_block(j: Job, layer: Layer, feed: NDArray[int64], first: int, head: int, scratch: int) -> None:
    """Queries from `first` on, counted token by token and within one by the heads of the group."""
    group = j.heads // j.kv_heads
    count = min(QUERY_ROWS, feed[FEED_NEW] * group - first)
    queries, answers = scratch, scratch + QUERY_ROWS * j.head * 4
    answer_stride = j.head_panels * LANES * 4
    scores = answers + QUERY_ROWS * answer_stride
    scale = float32(1.0 / math.sqrt(j.head))
    none = number(0)
    for i in range(count):
        token, member = (first + i) // group, (first + i) % group
        source = floats(j.qkv + (feed[FEED_ROW] + token) * j.qkv_stride + (head * group + member) * j.head * 4, j.head)
        target = floats(queries + i * j.head * 4, j.head)
        for d in range(j.head):
            target[d] = source[d] * scale
    end = feed[FEED_START] + (first + count - 1) // group + 1
    panels = -(-end // LANES)
    score_stride, key_stride = panels * LANES * 4, LANES * j.head * 4
    block = (feed[FEED_SLOT] * j.kv_heads + head) * j.room
    keys, values = layer.keys + block * j.head * 4, layer.values + block * answer_stride
    multiply(none, count, queries, j.head * 4, keys, key_stride, j.head, panels, scores, score_stride, none, none)
    for i in range(count):
        softmax(floats(scores + i * score_stride, end), feed[FEED_START] + (first + i) // group + 1)
    value_stride = j.room * LANES * 4
    multiply(
        none, count, scores, score_stride, values, value_stride, end, j.head_panels, answers, answer_stride, none, none
    )
    for i in range(count):
        token, member = (first + i) // group, (first + i) % group
        source = floats(answers + i * answer_stride, j.head)
        target = floats(j.attended + ((feed[FEED_ROW] + token) * j.heads + head * group + member) * j.head * 4, j.head)
        for d in range(j.head):
            target[d] = source[d]
