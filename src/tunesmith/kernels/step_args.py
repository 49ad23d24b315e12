"""What a step works on: addresses and sizes, filled in by Python, read by compiled code.

Addresses are those of float32 numbers and of int64 tables, strides and sizes are in bytes where nothing else is said.
"""

from typing import Protocol

import numpy
from numpy.typing import NDArray


class Job(Protocol):
    """One step. The first fields are the model's, the others change from step to step."""

    team: int  # memory of `team`
    half: int  # 1: matrices are float16
    layers: int
    hidden: int
    hidden_stride: int  # of a row of `stream` and `normed`
    heads: int
    kv_heads: int
    head: int  # numbers of a head
    head_panels: int  # panels of 16 that its columns fill
    qkv_stride: int  # of a row of `qkv`: queries, keys and values, each filled up to whole panels
    key_column: int
    value_column: int
    inner_panels: int  # of the gate, and as many of the up projection
    embedding: int
    final_norm: int
    eps: float

    rows: int  # tokens of the step
    wanted: int  # logits that are asked for
    tokens: int  # table [rows]
    positions: int  # table [rows]
    slots: int  # table [rows]
    wanted_rows: int  # table [wanted]
    cos: int  # [rows, head]
    sin: int
    feeds: int
    feed_table: int  # [feeds, FEED_COLUMNS], in the order of their rows
    blocks: int  # of attention, of all feeds
    segments: int
    segment_table: int  # [segments, SEGMENT_COLUMNS]
    room: int  # positions of a slot
    stream: int  # the residual stream [rows, hidden]
    normed: int  # [rows, hidden]
    qkv: int
    attended: int  # [rows, heads * head]
    low: int  # [rows, low_panels * 16]
    low_panels: int
    gated: int  # [rows, 2 * inner_panels * 16]
    logits: int  # [wanted, vocabulary in whole panels]
    logits_stride: int
    scratch: int  # of each thread
    scratch_bytes: int
    counters: int  # a cache line for each phase, all 0


class Layer(Protocol):
    attention_norm: int
    query_norm: int  # 0: none
    key_norm: int
    mlp_norm: int
    keys: int  # [slots, kv heads, room / 16, head, 16]
    values: int  # [slots, kv heads, head panels, room, 16]


class Line(Protocol):
    """A matrix in panels."""

    weight: int
    bias: int  # 0: none
    length: int  # inputs
    panels: int
    panel_stride: int


def record(protocol: type) -> numpy.dtype[numpy.void]:
    kinds = {int: numpy.int64, float: numpy.float64}
    return numpy.dtype([(name, kinds[kind]) for name, kind in protocol.__annotations__.items()])


JOB, LAYER, LINE = record(Job), record(Layer), record(Line)
LINES = 4  # of a layer: queries, keys and values; output; gate and up; down
COUNTER_BYTES = 64
ATTENTION_PHASES, MLP_PHASES = 7, 5  # of a layer: each needs a counter

# Columns of the tables.
FEED_ROW, FEED_NEW, FEED_START, FEED_SLOT, FEED_FIRST_BLOCK, FEED_COLUMNS = range(6)
SEGMENT_ROW, SEGMENT_ROWS, SEGMENT_LOWS, SEGMENT_COLUMNS = range(4)
# An adapter's table [layers * LINES, LOW_COLUMNS]: the panels of all its a, then for up to three parts where b is, from
# which column of x @ a it starts, its rank, and which panels of the output it adds to.
LOW_A, LOW_PANELS, LOW_PARTS = range(3)
PARTS, PART_COLUMNS = 3, 5
PART_B, PART_OFFSET, PART_RANK, PART_FIRST, PART_LAST = range(PART_COLUMNS)
LOW_COLUMNS = LOW_PARTS + PARTS * PART_COLUMNS
QUERY_ROWS = 8  # of a block of attention

Jobs = NDArray[numpy.void]
