"""Arguments of a training step: addresses and sizes.

As `kernels.serving.step_args` has them for serving. Numbers are float32 and tables int64. Strides follow from the
sizes, since all widths are multiples of 16; ranks need not be, and low-rank products are padded. Fields that begin with
`grad` are gradients of the loss with respect to what the rest of the name says. Whoever fills a record in keeps the
arrays that it points to alive (`train.paths.compiled`).
"""

from enum import IntEnum
from typing import Protocol

from tunesmith.kernels.records import record
from tunesmith.kernels.vectors import LANES


class TrainStepArgs(Protocol):
    """One pass: the first fields are the model's, the others change every step."""

    pool: int  # the memory of a `ThreadPool`
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    rotary_size: int  # the numbers at the beginning of a head that are rotated
    neighbours: int  # 1: numbers 2i and 2i + 1 of a head are rotated by the same angle, not i and i + half
    wide_norms: int  # 1: query_norm and key_norm are of all heads together
    inner: int  # columns of the gate projection, and of the up projection
    activation: int  # a `records.Activation`
    parts: int  # linears with LoRA, of all layers
    lora_width: int  # the largest of the matrices'
    eps: float
    score_scale: float  # of attention
    score_cap: float  # scaled scores become cap * tanh(score / cap); 0: they stay
    update_scale: float  # of the adapter: alpha / rank
    dots: int  # a `DotUnit` for the layers' matrices, all bfloat16; NONE: products are exact

    # 0: from the first layer's input to the last layer's output; 1: from that output's gradient to the adapter's
    backward: int
    adapted: int  # 0: the base alone
    values: int  # of the adapter, one flat array; up to 15 numbers behind it are read, and not used
    grads: int  # the adapter's gradients are added here, laid out as the values
    rows: int  # tokens
    panels: int  # of 16 tokens
    cos: int  # [rotations, rows, rotary_size]
    sin: int
    until: int  # table [16 * panels]: the end of the tokens that see this one as a key
    panel_until: int  # table [panels]: the largest `until` of its tokens
    normed: int  # [rows, hidden]
    panel_least: int  # table [panels]: the smallest, 0 where tokens are missing
    positions: int  # table [16 * panels]: of the tokens in their rows; read where a layer has a window
    panel_low: int  # table [panels]: the lowest position of its tokens
    panel_high: int  # table [panels]: the highest
    activated: int  # [rows, inner]: activation(gate) * up
    key_panels: int  # [kv heads, panels, head_size, 16]
    value_columns: int  # [kv heads, head_size / 16, 16 * panels, 16]
    query_panels: int  # [heads, panels, head_size, 16], and so on: of the backward pass
    query_columns: int
    key_columns: int
    grad_panels: int  # of attention's output
    grad_columns: int
    score_grads: int  # [heads of a range, its query panels, 16 * panels, 16]: see `attention_back`
    range_heads: int  # key heads of a range
    range_panels: int  # panels of queries of a range
    grad: int  # [rows, hidden], of the residual stream
    grad_normed: int
    grad_branch: int  # of what attention or MLP adds, before its norm; in families with such norms
    grad_activated: int
    grad_attended: int  # [rows, heads * head_size]
    grad_qkv: int
    grad_lora_hidden: int  # [rows, lora_width]
    rounded: int  # with `dots`: the rows that the next matrix multiplies, bfloat16 [rows, ins or outs]
    delta: int  # [heads, rows]: the dot product of attention's output and its gradient
    scratch: int  # [threads, scratch_bytes]
    scratch_bytes: int
    counters: int  # table: see `records.new_counters`
    times: int  # table of a `phase_times.PhaseTimes`; 0: not measured

    head: int  # 0: the pass is one of layers; else one of the `HeadPass`, of the matrix behind the layers'
    head_rows: int
    head_input: int  # [head_rows, hidden], or its gradient
    logits: int  # [head_rows, outs of the head], or their gradient


class TrainLayer(Protocol):
    """The weights of a layer's norms, and what its backward pass needs."""

    attention_norm: int  # [hidden], of attention's input; 0: none
    attention_post_norm: int  # [hidden], of what attention adds; 0: none
    mlp_norm: int  # [hidden], of the MLP's input; 0: none
    mlp_post_norm: int  # [hidden], of what the MLP adds; 0: none
    query_norm: int  # of query heads before they are rotated: [head_size], or all heads with `wide_norms`; 0: none
    key_norm: int
    rotation: int  # 1 + the index of its angles in `TrainStepArgs.cos`; 0: a layer without rotary embedding
    window: int  # positions that a token sees, its own the last; 0: all
    source: int  # [rows, hidden], its input
    after_attention: int  # [rows, hidden], the residual stream between attention and MLP
    target: int  # [rows, hidden], its output
    attention_branch: int  # [rows, hidden]: what attention adds, before attention_post_norm; 0: not kept
    mlp_branch: int  # the same of the MLP
    raw: int  # [rows, (heads + 2 kv heads) * head_size], as the linears compute it
    qkv: int  # with queries and keys normalized and rotated: the same memory as `raw`, or with norms one of all layers
    attended: int  # [rows, heads * head_size]
    lse: int  # [heads, rows]: log of the sum of exponentials of the scores
    gate_up: int  # [rows, 2 * inner]: gate and up; in the backward pass their gradients


class TrainMatrix(Protocol):
    """Linears that read the same input, as one frozen matrix in panels."""

    kind: int  # the format of the weight's numbers, one of `Number`
    weight: int  # [outs / 16, ins, 16]
    back: int  # [ins / 16, outs, 16]: the same for the backward pass; 0: made from `weight` in each step
    bias: int  # [outs]; 0: none
    ins: int
    outs: int
    lora_hidden: int  # [rows, lora_width]: input @ a^T * scale, of all parts side by side
    lora_width: int
    a_panels: int  # [lora_width / 16, ins, 16]
    first_part: int
    parts: int


class LoraPart(Protocol):
    """The LoRA of one linear: y += scale * (x @ a^T) @ b^T."""

    matrix: int  # the index of the matrix that the linear is a part of
    first: int  # of the matrix's output columns
    outs: int
    rank: int
    lora_column: int  # of the matrix's lora_hidden; a multiple of 16
    a: int  # [rank, ins], in bytes from the beginning of the values
    b: int  # [outs, rank], likewise
    b_panels: int  # address [outs / 16, rank, 16]


TRAIN_STEP_ARGS, TRAIN_LAYER = record(TrainStepArgs), record(TrainLayer)
TRAIN_MATRIX, LORA_PART = record(TrainMatrix), record(LoraPart)


class HeadPass(IntEnum):
    """What a pass of the output layer computes."""

    LOGITS = 1
    GRADIENT = 2


class PassPhase(IntEnum):
    """Phases of a forward pass before its layers, and of the output layer's passes."""

    REPACK = 0
    HEAD = 1


class ForwardPhase(IntEnum):
    """Phases of a layer in the forward pass, in their order."""

    ATTENTION_NORM = 0
    QKV_LORA = 1
    QKV = 2
    ROTATE = 3
    ATTEND = 4
    OUTPUT_LORA = 5
    OUTPUT = 6
    ATTENTION_ADD = 7  # of layers with norms behind attention
    MLP_NORM = 8
    GATE_UP_LORA = 9
    GATE_UP = 10
    ACTIVATE = 11
    DOWN_LORA = 12
    DOWN = 13
    MLP_ADD = 14


class BackwardPhase(IntEnum):
    """Phases of a layer in the backward pass, in their order."""

    MLP_POST_NORM = 0  # of layers with norms behind attention and MLP
    ACTIVATE = 1  # computes again what the forward pass did not keep
    DOWN_LORA = 2
    DOWN = 3
    ACTIVATE_BACK = 4
    GATE_UP_LORA = 5
    GATE_UP = 6
    MLP_NORM_BACK = 7
    ATTENTION_POST_NORM = 8
    ATTENTION_NORM = 9  # again
    OUTPUT_LORA = 10
    OUTPUT = 11
    PREPARE_ATTENTION = 12
    ATTEND = 13
    WIDE_NORMS = 14  # of queries and keys
    QKV_LORA = 15
    QKV = 16
    ATTENTION_NORM_BACK = 17


PASS_PHASES, FORWARD_PHASES, BACKWARD_PHASES = len(PassPhase), len(ForwardPhase), len(BackwardPhase)


def train_phases(layers: int) -> int:
    """Enough counters for a forward pass, and for a backward pass."""
    return PASS_PHASES + layers * max(FORWARD_PHASES, BACKWARD_PHASES)


KEY_ROWS = 256  # queries that a panel of keys is multiplied with at once
SCORE_GRADS = 1 << 22  # of a range: 16 MB, which stay in the cache
HEAD_OUTPUTS = 1024  # of the vocabulary, whose weights are transposed at once
QUERY_TOKENS = 12  # of a block of attention: two blocks of the six rows that AVX2 multiplies at once
OUT_BLOCK = 64  # rows of b whose gradients are one piece of work


def score_ranges(panels: int, heads: int, kv_heads: int) -> tuple[int, int]:
    """How many key heads and panels of queries a range of `attention_back` has.

    `panels`: of 16 tokens. All heads where their scores' gradients are few enough, else equal numbers of heads, else
    one head and so many panels as have few enough.
    """
    panel = heads // kv_heads * panels * LANES * LANES  # numbers of a panel of queries, of one key head
    most = SCORE_GRADS // (panel * panels)
    if most:
        ranges = -(-kv_heads // most)
        return -(-kv_heads // ranges), panels
    block = KEY_ROWS // LANES
    return 1, max(SCORE_GRADS // panel // block * block, block)
