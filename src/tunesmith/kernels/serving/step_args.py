"""Arguments of a serving step: addresses and sizes.

Python fills them in and compiled code reads them. An address is that of float32 numbers, or of an int64 table where the
comment says table; strides are in bytes and sizes are counts. Records do not own what they point to: whoever fills one
in keeps the arrays alive until the step is over (`serve.local.step.Steps`, `serve.local.llama_runner.CompiledRunner`).
`docs/kernels.md` has the picture.
"""

from enum import IntEnum
from typing import Protocol

from tunesmith.kernels.records import record


class StepArgs(Protocol):
    """One step: the first fields are the model's, the others change every step."""

    pool: int  # the memory of a `ThreadPool`
    layers: int
    hidden: int
    hidden_stride: int  # of a row of `residual` and `normed`
    heads: int
    kv_heads: int
    head_size: int
    head_panels: int  # panels of 16 columns that a head fills
    qkv_stride: int  # of a row of `qkv`: queries, keys and values, each padded to whole panels
    key_column: int
    value_column: int
    inner_panels: int  # of the gate projection, and as many of the up projection
    embedding: int  # [vocabulary, hidden]
    embedding_kind: int  # the format of its numbers, one of `Number`
    final_norm: int  # [hidden]
    eps: float
    embedding_scale: float  # embeddings are multiplied by it
    branch_scale: float  # what attention and MLP add to the residual stream is multiplied by it
    score_scale: float  # of attention
    score_cap: float  # scores become cap * tanh(score / cap); 0: they stay
    rotary_size: int  # the numbers at the beginning of a head that are rotated
    wide_norms: int  # 1: query_norm and key_norm are of all heads together
    activation: int  # a `records.Activation`
    dots: int  # a `DotUnit` for the layers' matrices, all bfloat16; NONE: products are exact

    rows: int  # tokens of the step
    logit_count: int  # rows whose logits are computed
    tokens: int  # table [rows]
    positions: int  # table [rows]
    slots: int  # table [rows]
    logit_rows: int  # table [logit_count]
    cos: int  # [rotations, rows, rotary_size]
    sin: int
    chunks: int
    chunk_table: int  # table [chunks, CHUNK_COLUMNS], in the order of their rows
    blocks: int  # of attention, of all chunks
    segments: int
    segment_table: int  # table [segments, SEGMENT_COLUMNS]
    capacity: int  # positions of a slot
    residual: int  # the residual stream [rows, hidden]
    normed: int  # [rows, hidden]
    qkv: int  # [rows, qkv_stride / 4]
    attended: int  # [rows, heads * head_size]
    lora_hidden: int  # [rows, lora_panels * 16]
    lora_panels: int
    gate_up: int  # [rows, 2 * inner_panels * 16]
    rounded: int  # with `dots`: the rows that the next matrix multiplies, bfloat16 [rows, length]
    logits: int  # [logit_count, vocabulary padded to whole panels]
    logits_stride: int
    scratch: int  # [threads, scratch_bytes]: for attention and `multiply_frozen`
    scratch_bytes: int
    counters: int  # table: see `new_counters`


class Layer(Protocol):
    """A layer's norms, angles and window, and its part of the key-value cache."""

    attention_norm: int  # [hidden], of attention's input; 0: none
    attention_post_norm: int  # [hidden], of what attention adds; 0: none
    query_norm: int  # [head_size], or with `StepArgs.wide_norms` [heads * head_size]; 0: none
    key_norm: int
    mlp_norm: int  # [hidden], of the MLP's input; 0: none
    mlp_post_norm: int  # [hidden], of what the MLP adds; 0: none
    rotation: int  # 1 + the index of its angles in `StepArgs.cos`; 0: a layer without rotary embedding
    window: int  # positions that a token sees, its own the last; 0: all
    keys: int  # [slots, kv heads, capacity / 16, head_size, 16]
    values: int  # [slots, kv heads, head panels, capacity, 16]


class Matrix(Protocol):
    """A weight matrix in panels."""

    kind: int  # the format of the weight's numbers, one of `Number`
    weight: int  # [panels, length, 16], or panels of blocks
    bias: int  # [panels * 16]; 0: none
    length: int  # inputs
    panels: int
    panel_stride: int


STEP_ARGS, LAYER, MATRIX = record(StepArgs), record(Layer), record(Matrix)


class StepPhase(IntEnum):
    """Phases of a step outside its layers."""

    EMBED = 0
    FINAL_NORM = 1
    LOGITS = 2


class LayerPhase(IntEnum):
    """Phases of a layer, in their order."""

    ATTENTION_NORM = 0
    QKV_LORA = 1
    QKV = 2
    ROTATE = 3
    ATTEND = 4
    OUTPUT_LORA = 5
    OUTPUT = 6
    ATTENTION_ADD = 7  # of layers with norms behind attention, or with a scale
    MLP_NORM = 8
    GATE_UP_LORA = 9
    GATE_UP = 10
    DOWN_LORA = 11
    DOWN = 12
    MLP_ADD = 13


STEP_PHASES, LAYER_PHASES = len(StepPhase), len(LayerPhase)


def phases(layers: int) -> int:
    """The number of phases of a step.

    Counters are in this order: phases outside the layers, then those of each layer.
    """
    return STEP_PHASES + layers * LAYER_PHASES


# Columns of the tables. A chunk: consecutive new tokens of one sequence.
CHUNK_ROW, CHUNK_NEW, CHUNK_START, CHUNK_SLOT, CHUNK_FIRST_BLOCK, CHUNK_COLUMNS = range(6)
# A segment: consecutive rows with the same adapter. SEGMENT_LORA is the address of the adapter's table.
SEGMENT_ROW, SEGMENT_ROWS, SEGMENT_LORA, SEGMENT_COLUMNS = range(4)
# An adapter's table [layers * LAYER_MATRICES, LORA_COLUMNS]: the address and number of the panels of all its a side by
# side, then for up to three linears the address of b, the column of x @ a that it starts from, its rank, and the panels
# of the output that it adds to.
LORA_A, LORA_PANELS, LORA_PARTS = range(3)
PARTS, PART_COLUMNS = 3, 5
PART_B, PART_OFFSET, PART_RANK, PART_FIRST, PART_LAST = range(PART_COLUMNS)
LORA_COLUMNS = LORA_PARTS + PARTS * PART_COLUMNS
QUERY_ROWS = 8  # of a block of attention
