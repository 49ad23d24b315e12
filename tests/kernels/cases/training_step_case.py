"""The case of a whole training step: two layers beside numpy, forward and backward, in the ways of several families."""

from dataclasses import dataclass

import numpy
from tests.kernels.cases.attention_cases import (
    HEAD_SIZE,
    HEADS,
    KV_HEADS,
    WIDTH,
    Norms,
    Tree,
    Way,
    tree_args,
    tree_layer,
)
from tests.kernels.linears import Linears
from tests.kernels.reference import (
    Floats,
    Pairs,
    Record,
    gelu,
    normal,
    records,
    reference,
    rms_norm,
    silu,
    whole,
    wide,
)

from tunesmith.kernels.multiply import TILE_PANELS
from tunesmith.kernels.records import LAYER_MATRICES, Activation, new_counters
from tunesmith.kernels.thread_pool import ThreadPool
from tunesmith.kernels.training import rows as step_rows
from tunesmith.kernels.training.step import training_step
from tunesmith.kernels.training.step_args import (
    KEY_ROWS,
    LORA_PART,
    OUT_BLOCK,
    QUERY_TOKENS,
    TRAIN_MATRIX,
    train_phases,
)
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES

LAYERS, HIDDEN, INNER, SCALE = 2, 2 * LANES, 3 * LANES, 0.5
QUERIES = HEADS * HEAD_SIZE
SHAPES = (  # inputs, outputs of each linear, ranks: of a layer, in the order of LayerMatrix
    (HIDDEN, (QUERIES, KV_HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE), (3, 0, 20)),
    (QUERIES, (HIDDEN,), (LANES,)),
    (HIDDEN, (INNER, INNER), (0, 5)),
    (INNER, (HIDDEN,), (20,)),
)
THREADS = (1, 2, 3)
BEFORE, BEHIND = ("attention_norm", "mlp_norm"), ("attention_post_norm", "mlp_post_norm")  # attention and MLP


@dataclass(frozen=True, slots=True)
class Manner:
    """What a family's layers do otherwise."""

    norms: tuple[str, ...]  # of the residual stream, and of what is added to it
    heads: Norms
    activation: Activation = Activation.SILU
    cap: float = 0.0
    window: int = 0  # of the second layer

    def way(self, index: int) -> Way:
        """That of a layer: the second has no rotary embedding and, where there are any, a window."""
        return Way(self.heads, 0 if index else 2, self.window if index else 0, self.cap)


MANNERS = (
    Manner(BEFORE, Norms.HEADS),
    Manner((*BEFORE, *BEHIND), Norms.NONE, Activation.GELU_TANH, cap=1.5, window=6),
    Manner(BEHIND, Norms.WIDE),
)
SHARED = {  # columns of what one layer after the other uses
    "normed": HIDDEN, "grad": HIDDEN, "grad_normed": HIDDEN, "activated": INNER, "grad_activated": INNER,
    "grad_attended": QUERIES, "grad_qkv": WIDTH, "grad_branch": HIDDEN,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One linear's LoRA: where its a [rank, ins] and b [outs, rank] are in the adapter's numbers."""

    a: slice
    b: slice
    rank: int
    outs: int
    matrix: int
    first: int  # of the matrix's outputs
    lora_column: int


@dataclass(frozen=True, slots=True)
class Layers:
    """Random layers of one manner for tokens of one tree."""

    linears: list[Linears]
    parts: list[Part]
    values: Floats
    tables: list[Record]
    args: Record
    sees: Floats
    manner: Manner

    @classmethod
    def of(cls, rows: int, manner: Manner) -> "Layers":
        random = numpy.random.default_rng(rows)
        linears = [Linears.of(random, 1, ins, outs) for _ in range(LAYERS) for ins, outs, _ in SHAPES]
        parts = _parts()
        values = normal(random, parts[-1].b.stop + 2 * LANES) * numpy.float32(0.2)
        args, sees = tree_args(random, rows)
        args.set(wide_norms=manner.heads is Norms.WIDE, score_cap=manner.cap, activation=int(manner.activation))
        shared = numpy.zeros((rows, WIDTH), numpy.float32)
        stream = [numpy.zeros((rows, HIDDEN), numpy.float32) for _ in range(2 * LAYERS + 1)]
        stream[0][:] = normal(random, rows, HIDDEN)
        tables = [_layer(random, shared, stream[2 * index : 2 * index + 3], manner, index) for index in range(LAYERS)]
        return cls(linears, parts, values, tables, args, sees, manner)

    def output(self, values: Floats) -> Floats:
        """Of the last layer [rows, hidden] in float64, for these numbers of an adapter."""
        residual, gated = wide(self.tables[0]["source"]), silu if self.manner.activation == Activation.SILU else gelu
        for index, layer in enumerate(self.tables):
            tree, first = Tree(self.args, layer, self.sees), LAYER_MATRICES * index
            raw = self._linear(values, first, _normed(layer, "attention_norm", residual))
            attended = tree.attended(raw.reshape(len(raw), -1, HEAD_SIZE))[0].reshape(len(raw), -1)
            branch = self._linear(values, first + 1, attended)
            residual = residual + _normed(layer, "attention_post_norm", branch)
            both = self._linear(values, first + 2, _normed(layer, "mlp_norm", residual))
            branch = self._linear(values, first + 3, gated(both[:, :INNER]) * both[:, INNER:])
            residual = residual + _normed(layer, "mlp_post_norm", branch)
        return residual

    def _linear(self, values: Floats, matrix: int, x: Floats) -> Floats:
        result = self.linears[matrix].product(0, 1, x)
        for part in self.parts:
            if part.matrix == matrix:
                a, b = values[part.a].reshape(part.rank, -1), values[part.b].reshape(-1, part.rank)
                result[:, part.first : part.first + part.outs] += SCALE * x @ a.T @ b.T
        return result

    def step(self, grad: Floats, threads: int) -> tuple[Floats, Floats]:
        """The output, and the adapter's gradient for that of the output."""
        args, rows = self.args, len(grad)
        width = max(sum(map(whole, ranks)) for _, _, ranks in SHAPES)
        columns = SHARED | {"grad_lora_hidden": width}
        args.set(**{name: numpy.full((rows, count), 7.0, numpy.float32) for name, count in columns.items()})
        scratch = max(
            QUERY_TOKENS * (whole(rows) + LANES),
            2 * KEY_ROWS * LANES,
            OUT_BLOCK * width,
            TILE_PANELS * LANES * max(sum(outs) for _, outs, _ in SHAPES),
        )
        args.set(scratch=numpy.zeros((threads, scratch), numpy.float32), scratch_bytes=scratch * FLOAT_BYTES)
        args.set(layers=LAYERS, hidden=HIDDEN, inner=INNER, lora_width=width, update_scale=SCALE, adapted=1)
        args.set(parts=len(self.parts), values=self.values, grads=numpy.zeros_like(self.values))
        matrices, parts = [self._matrix(index, rows) for index in range(len(self.linears))], self._part_records()
        tables = args.rows, records(*self.tables), records(*matrices), records(*parts)
        pool = ThreadPool(threads, lambda thread: training_step(thread, 0, *tables))
        for backward in range(2):
            args.set(pool=pool.address, backward=backward, counters=new_counters(train_phases(LAYERS)))
            args["grad"][:] = grad
            training_step(0, pool.gather(threads), *tables)
        pool.close()
        return self.tables[-1]["target"].copy(), args["grads"]

    def _matrix(self, index: int, rows: int) -> Record:
        ins, outs, ranks = SHAPES[index % LAYER_MATRICES]
        width, mine = sum(map(whole, ranks)), [part.matrix for part in self.parts]
        matrix = self.linears[index].matrix(0, 1)
        return Record(
            TRAIN_MATRIX,
            weight=matrix["weight"],
            bias=matrix["bias"],
            ins=ins,
            outs=sum(outs),
            lora_width=width,
            lora_hidden=numpy.zeros((rows, width), numpy.float32),
            a_panels=numpy.zeros((width // LANES, ins, LANES), numpy.float32),
            first_part=mine.index(index),
            parts=mine.count(index),
        )

    def _part_records(self) -> list[Record]:
        return [
            Record(
                LORA_PART,
                matrix=part.matrix,
                first=part.first,
                outs=part.outs,
                rank=part.rank,
                lora_column=part.lora_column,
                a=part.a.start * FLOAT_BYTES,
                b=part.b.start * FLOAT_BYTES,
                b_panels=numpy.zeros(part.outs * part.rank, numpy.float32),
            )
            for part in self.parts
        ]


def _parts() -> list[Part]:
    """Side by side in the adapter's numbers: a and b of each linear that has them."""
    parts, place = list[Part](), 0
    for matrix in range(LAYERS * LAYER_MATRICES):
        ins, outs, ranks = SHAPES[matrix % LAYER_MATRICES]
        column = first = 0
        for count, rank in zip(outs, ranks, strict=True):
            if rank:
                middle, end = place + rank * ins, place + rank * (ins + count)
                parts.append(Part(slice(place, middle), slice(middle, end), rank, count, matrix, first, column))
                place, column = end, column + whole(rank)
            first += count
    return parts


def _normed(layer: Record, norm: str, x: Floats) -> Floats:
    return rms_norm(x, wide(layer[norm])) if layer.rows[norm][0] else x


def _layer(random: numpy.random.Generator, shared: Floats, stream: list[Floats], manner: Manner, index: int) -> Record:
    """`shared`: where queries and keys are normed, of one layer after the other."""
    rows = len(shared)
    layer = tree_layer(random, rows, manner.way(index))
    if manner.heads is not Norms.NONE:
        layer.set(qkv=shared)
    layer.set(**dict(zip(("source", "after_attention", "target"), stream, strict=True)))
    layer.set(**{name: normal(random, HIDDEN) for name in manner.norms})
    if set(BEHIND) <= set(manner.norms):
        layer.set(**{name: numpy.zeros((rows, HIDDEN), numpy.float32) for name in ("attention_branch", "mlp_branch")})
    layer.set(attended=numpy.zeros((rows, QUERIES), numpy.float32))
    layer.set(gate_up=numpy.zeros((rows, 2 * INNER), numpy.float32))
    return layer


@reference(
    training_step,
    step_rows.norm_rows,
    step_rows.norm_back,
    step_rows.add_branch,
    step_rows.branch_back,
    step_rows.activate_rows,
    step_rows.activate_and_norm,
    step_rows.activate_rows_back,
    tolerance=2e-4,
)
def training_step_case(size: int) -> Pairs:
    """A tree of `size` tokens in the manner of each family, to the bit on 1 to 3 threads.

    The gradients of each a and b are compared along random directions with central differences of numpy's output.
    """
    return [pair for manner in MANNERS for pair in _step_pairs(size, manner)]


def _step_pairs(size: int, manner: Manner) -> Pairs:
    layers, random = Layers.of(size, manner), numpy.random.default_rng(size)
    grad = normal(random, size, HIDDEN)
    output, grads = layers.step(grad, 1)
    for threads in THREADS[1:]:
        again, grads_again = layers.step(grad, threads)
        assert numpy.array_equal(again, output)
        assert numpy.array_equal(grads_again, grads)
    got, expected = [], []
    for part in layers.parts:
        for here in (part.a, part.b):
            for direction in random.standard_normal((3, here.stop - here.start)):
                got.append(wide(grads)[here] @ direction)
                expected.append(_along(layers, here, direction, grad))
    return [(output, layers.output(wide(layers.values))), (numpy.array(got), numpy.array(expected))]


def _along(layers: Layers, here: slice, direction: Floats, grad: Floats) -> float:
    """The derivative of sum(output * grad) along a direction."""
    values, step = wide(layers.values), 1e-5
    there, back = values.copy(), values.copy()
    there[here] += step * direction
    back[here] -= step * direction
    return float(((layers.output(there) - layers.output(back)) * grad).sum() / (2 * step))
