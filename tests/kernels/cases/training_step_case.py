"""The case of a whole training step: two layers of the Llama family beside numpy, forward and backward."""

from dataclasses import dataclass

import numpy
from tests.kernels.cases.training_cases import HEAD_SIZE, HEADS, KV_HEADS, WIDTH, Tree, tree_args
from tests.kernels.linears import Linears
from tests.kernels.reference import Floats, Pairs, Record, normal, records, reference, rms_norm, silu, whole, wide

from tunesmith.kernels.multiply import TILE_PANELS
from tunesmith.kernels.records import LAYER_MATRICES, new_counters
from tunesmith.kernels.thread_pool import ThreadPool
from tunesmith.kernels.training.step import training_step
from tunesmith.kernels.training.step_args import (
    KEY_ROWS,
    LORA_PART,
    OUT_BLOCK,
    QUERY_TOKENS,
    TRAIN_LAYER,
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
SHARED = {  # columns of what one layer after the other uses
    "normed": HIDDEN, "grad": HIDDEN, "grad_normed": HIDDEN, "activated": INNER, "grad_activated": INNER,
    "grad_attended": QUERIES, "grad_qkv": WIDTH,
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
    """Random layers with norms of heads, the second without rotary embedding, for tokens of one tree."""

    linears: list[Linears]
    parts: list[Part]
    values: Floats
    tables: list[Record]
    args: Record
    sees: Floats

    @classmethod
    def of(cls, rows: int) -> "Layers":
        random = numpy.random.default_rng(rows)
        linears = [Linears.of(random, 1, ins, outs) for _ in range(LAYERS) for ins, outs, _ in SHAPES]
        parts = _parts()
        values = normal(random, parts[-1].b.stop + 2 * LANES) * numpy.float32(0.2)
        args, sees = tree_args(random, rows)
        shared = numpy.zeros((rows, WIDTH), numpy.float32)
        stream = [numpy.zeros((rows, HIDDEN), numpy.float32) for _ in range(2 * LAYERS + 1)]
        stream[0][:] = normal(random, rows, HIDDEN)
        tables = [_layer(random, shared, stream[2 * index : 2 * index + 3], index == 0) for index in range(LAYERS)]
        return cls(linears, parts, values, tables, args, sees)

    def output(self, values: Floats) -> Floats:
        """Of the last layer [rows, hidden] in float64, for these numbers of an adapter."""
        residual = wide(self.tables[0]["source"])
        for index, layer in enumerate(self.tables):
            tree, first = Tree(self.args, layer, self.sees), LAYER_MATRICES * index
            raw = self._linear(values, first, rms_norm(residual, layer["attention_norm"]))
            attended = tree.attended(raw.reshape(len(raw), -1, HEAD_SIZE))[0].reshape(len(raw), -1)
            residual = residual + self._linear(values, first + 1, attended)
            both = self._linear(values, first + 2, rms_norm(residual, layer["mlp_norm"]))
            residual = residual + self._linear(values, first + 3, silu(both[:, :INNER]) * both[:, INNER:])
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


def _layer(random: numpy.random.Generator, qkv: Floats, stream: list[Floats], rotates: bool) -> Record:
    source, after_attention, target = stream
    rows = len(qkv)
    return Record(
        TRAIN_LAYER,
        attention_norm=normal(random, HIDDEN),
        mlp_norm=normal(random, HIDDEN),
        query_norm=normal(random, HEAD_SIZE),
        key_norm=normal(random, HEAD_SIZE),
        rotated=rotates,
        source=source,
        after_attention=after_attention,
        target=target,
        raw=numpy.zeros((rows, WIDTH), numpy.float32),
        qkv=qkv,
        attended=numpy.zeros((rows, QUERIES), numpy.float32),
        lse=numpy.zeros((HEADS, rows), numpy.float32),
        gate_up=numpy.zeros((rows, 2 * INNER), numpy.float32),
    )


@reference(training_step, tolerance=2e-4)
def training_step_case(size: int) -> Pairs:
    """A tree of `size` tokens, to the bit on 1 to 3 threads.

    The gradients of each a and b are compared along random directions with central differences of numpy's output.
    """
    layers, random = Layers.of(size), numpy.random.default_rng(size)
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
