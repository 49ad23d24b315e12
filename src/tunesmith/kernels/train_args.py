"""What a training step works on, as `kernels.step_args` has it for serving: addresses, sizes, and what they mean.

Numbers are float32, tables int64; strides follow from the sizes, since all widths are multiples of 16 but for ranks,
and low-rank products are filled up to such. Names that begin with `grad` are gradients of the loss by what the rest of
the name says.
"""

from typing import Protocol

from tunesmith.kernels.step_args import record


class Step(Protocol):
    """The first fields are the model's, the others change from step to step."""

    team: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int  # numbers of a head
    inner: int  # columns of gate, and of up
    parts: int  # linears that have an update, of all layers
    low_width: int  # most columns of a line's low-rank product
    eps: float
    update_scale: float  # of the adapter's updates

    backward: (
        int  # 0: from the first layer's input to the last one's output; 1: from that one's gradient to the adapter's
    )
    adapted: int  # 0: the base alone
    values: int  # the adapter's, all in one
    grads: int  # to which the adapter's gradients are added, laid out as the values
    rows: int  # tokens
    panels: int  # of 16 tokens
    cos: int  # [rows, head]
    sin: int
    until: int  # table [16 * panels]: the first token behind those that see this one as a key
    panel_until: int  # table [panels]: the largest of its tokens'
    normed: int  # [rows, hidden]
    opened: int  # [rows, inner]: silu(gate) * up
    key_panels: int  # [kv heads, panels, head, 16]
    value_panels: int
    grad: int  # [rows, hidden], of the residual stream
    grad_normed: int
    grad_opened: int
    grad_attended: int  # [rows, heads * head]
    grad_qkv: int
    grad_low: int  # [rows, low_width]
    delta: int  # [rows, heads]: gradient . answer of attention
    scratch: int  # of each thread
    scratch_bytes: int
    counters: int  # a cache line for each phase, all 0


class TrainLayer(Protocol):
    """What is kept of a layer from the forward to the backward pass, and its norms' weights."""

    attention_norm: int
    mlp_norm: int
    query_norm: int  # [head], of each query head before it is turned; 0: none
    key_norm: int
    turned: int  # 0: its queries and keys stand for no positions
    source: int  # [rows, hidden], its input
    middle: int  # [rows, hidden], the input of its MLP
    target: int  # [rows, hidden], its output
    raw: int  # [rows, (heads + 2 kv heads) * head], as the linears give it
    qkv: int  # queries and keys normed and turned: in the place of `raw`, or with norms in one that all layers share
    attended: int  # [rows, heads * head]
    lse: int  # [rows, heads]: log of the sum of exponentials of the scores
    gated: int  # [rows, 2 * inner]: gate and up; in the backward pass their gradients


class TrainLine(Protocol):
    """Linears that read the same input, as one matrix in panels."""

    weight: int  # [outs / 16, ins, 16]
    back: int  # [ins / 16, outs, 16]: the same for the other direction; 0: made of the weight in each step
    bias: int  # 0: none
    ins: int
    outs: int
    low: int  # [rows, low_width]: input @ a^T * scale, of all parts side by side
    low_width: int
    a_panels: int  # [low_width / 16, ins, 16]
    first_part: int
    parts: int


class Part(Protocol):
    """One linear's update: y += scale * (x @ a^T) @ b^T."""

    line: int
    first: int  # of the line's output columns
    outs: int
    rank: int
    low_column: int  # a multiple of 16
    a: int  # [rank, ins], bytes from the beginning of the values
    b: int  # [outs, rank]
    b_panels: int  # address [outs / 16, rank, 16]


STEP, TRAIN_LAYER, TRAIN_LINE, PART = record(Step), record(TrainLayer), record(TrainLine), record(Part)
FORWARD_PHASES, BACKWARD_PHASES = 13, 15  # of a layer: each needs a counter
KEY_ROWS = 256  # queries that a panel of keys looks at together
QUERY_TOKENS = 8  # of a block of attention
OUT_BLOCK = 64  # rows of b whose gradients are a piece
