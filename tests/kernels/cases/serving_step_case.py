"""The case of a whole serving step: a small model of the Llama family beside numpy."""

import itertools
from dataclasses import dataclass

import numpy
from tests.kernels.linears import Adapter, Linears
from tests.kernels.reference import (
    EPS,
    Floats,
    Pairs,
    Record,
    angles,
    normal,
    records,
    reference,
    rms_norm,
    rotated,
    silu,
    softmax,
    whole,
    wide,
)

from tunesmith.kernels.records import LayerMatrix, new_counters
from tunesmith.kernels.serving.step import serving_step
from tunesmith.kernels.serving.step_args import LAYER, LORA_PANELS, QUERY_ROWS, STEP_ARGS, phases
from tunesmith.kernels.thread_pool import ThreadPool
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_SIZE, INNER, VOCABULARY, CAPACITY = 2, 40, 4, 2, 8, 24, 50, 64
QKV = (HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE)  # whole panels each
PLAIN = {"embedding_scale": 1.0, "branch_scale": 1.0, "score_scale": HEAD_SIZE**-0.5}
THREADS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Model:
    """Random weights."""

    embedding: Floats
    final_norm: Floats
    layers: list[Record]
    linears: list[Linears]  # of each layer in the order of LayerMatrix, then the output layer
    adapter: Adapter
    numbers: dict[str, float]  # that it multiplies by

    @classmethod
    def of(cls, random: numpy.random.Generator, *, other: bool) -> "Model":
        """`other`: layers otherwise than Llama's, one with norms behind attention and MLP, one with the multipliers."""

        def linears(ins: int, *outs: int) -> Linears:
            return Linears.of(random, 1, ins, outs)

        layers = [cls._layer(random) for _ in range(LAYERS)]
        if other:
            for name in ("attention", "mlp"):
                layers[0].set(**{f"{name}_norm": 0})
                layers[0].set(**{f"{name}_post_norm": normal(random, HIDDEN)})
            layers[1].set(rotation=0, window=7, attention_post_norm=normal(random, HIDDEN))
        numbers = {"embedding_scale": 6.5, "branch_scale": 0.22, "score_scale": 0.3} if other else PLAIN
        matrices = [
            matrix
            for _ in range(LAYERS)
            for matrix in (
                linears(HIDDEN, *QKV),
                linears(QKV[0], HIDDEN),
                linears(HIDDEN, INNER, INNER),
                linears(INNER, HIDDEN),
            )
        ]
        adapter = Adapter.of(random, matrices, (3, 0, 20))
        embedding, norm = normal(random, VOCABULARY, HIDDEN), normal(random, HIDDEN)
        return cls(embedding, norm, layers, [*matrices, linears(HIDDEN, VOCABULARY)], adapter, numbers)

    @staticmethod
    def _layer(random: numpy.random.Generator) -> Record:
        return Record(
            LAYER,
            attention_norm=normal(random, HIDDEN),
            mlp_norm=normal(random, HIDDEN),
            query_norm=normal(random, HEAD_SIZE),
            key_norm=normal(random, HEAD_SIZE),
            rotation=1,
            keys=numpy.zeros((1, KV_HEADS, CAPACITY // LANES, HEAD_SIZE, LANES), numpy.float32),
            values=numpy.zeros((1, KV_HEADS, 1, CAPACITY, LANES), numpy.float32),
        )

    def logits(self, tokens: Floats, adapted: bool) -> Floats:
        """[tokens, vocabulary] in float64, by the formulas of transformers' models."""
        residual = wide(self.embedding)[tokens] * self.numbers["embedding_scale"]
        for index, layer in enumerate(self.layers):
            qkv = self._linear(index, LayerMatrix.QKV, _normed(residual, layer, "attention_norm"), adapted)
            attended = self._attended(layer, qkv.reshape(len(tokens), -1, HEAD_SIZE))
            branch = self._linear(index, LayerMatrix.OUTPUT, attended, adapted)[:, :HIDDEN]
            residual = residual + _normed(branch, layer, "attention_post_norm") * self.numbers["branch_scale"]
            both = self._linear(index, LayerMatrix.GATE_UP, _normed(residual, layer, "mlp_norm"), adapted)
            gate, up = both[:, :INNER], both[:, whole(INNER) :][:, :INNER]
            branch = self._linear(index, LayerMatrix.DOWN, silu(gate) * up, adapted)[:, :HIDDEN]
            residual = residual + _normed(branch, layer, "mlp_post_norm") * self.numbers["branch_scale"]
        return self.linears[-1].product(0, 1, rms_norm(residual, self.final_norm))

    def _attended(self, layer: Record, heads: Floats) -> Floats:
        """Of queries, keys and values [tokens, heads, head size]."""
        places = numpy.arange(len(heads))
        cos, sin = angles(places, HEAD_SIZE)
        queries, keys = (
            rms_norm(heads[:, :HEADS], layer["query_norm"]),
            rms_norm(heads[:, HEADS:-KV_HEADS], layer["key_norm"]),
        )
        if layer.rows["rotation"][0]:
            queries, keys = (rotated(part, cos[:, None], sin[:, None]) for part in (queries, keys))
        keys, values = (numpy.repeat(part, HEADS // KV_HEADS, 1) for part in (keys, heads[:, -KV_HEADS:]))
        behind = places[:, None] - places
        seen = (behind >= 0) & (behind < (layer.rows["window"][0] or CAPACITY))
        scores = numpy.einsum("thd,khd->htk", queries, keys) * self.numbers["score_scale"]
        weights = softmax(numpy.where(seen, scores, -numpy.inf))
        attended: Floats = numpy.einsum("htk,khd->thd", weights, values).reshape(len(heads), -1)
        return attended

    def _linear(self, layer: int, matrix: LayerMatrix, x: Floats, adapted: bool) -> Floats:
        index = layer * len(LayerMatrix) + matrix
        linears = self.linears[index]
        outs = [len(weight) for weight in linears.weights]
        return linears.product(0, 1, x) + (self.adapter.update(x, index, outs) if adapted else 0)

    def step(self, tokens: Floats, start: int, count: int, threads: int, adapted: bool) -> Floats:
        """The last `count` rows' logits, after a step with tokens that begin at a position of slot 0."""
        rows = len(tokens)
        args = Record(STEP_ARGS, **_sizes(rows, count), **_tables(tokens, start, count))
        lora = LANES * int(self.adapter.table[:, LORA_PANELS].max())
        buffers = {
            "residual": (rows, whole(HIDDEN)), "normed": (rows, whole(HIDDEN)), "qkv": (rows, sum(QKV)),
            "attended": (rows, QKV[0]), "lora_hidden": (rows, lora), "gate_up": (rows, 2 * whole(INNER)),
            "logits": (count, whole(VOCABULARY)), "scratch": (threads, _scratch(start + rows)),
        }  # fmt: skip
        args.set(**{name: numpy.zeros(shape, numpy.float32) for name, shape in buffers.items()})
        args.set(**self.numbers)
        args.set(embedding=self.embedding, final_norm=self.final_norm, counters=new_counters(phases(LAYERS)))
        if adapted:
            segments = numpy.array([[0, rows, self.adapter.table.ctypes.data]])
            args.set(segments=1, segment_table=segments, lora_panels=lora // LANES)
        matrices = [linears.matrix(0, 1) for linears in self.linears]
        tables = args.rows, records(*self.layers), records(*matrices)
        pool = ThreadPool(threads, lambda thread: serving_step(thread, 0, *tables))
        args.set(pool=pool.address)
        serving_step(0, pool.gather(threads), *tables)
        pool.close()
        return args["logits"]


def _normed(x: Floats, layer: Record, name: str) -> Floats:
    return rms_norm(x, layer[name]) if layer.rows[name][0] else x


def _scratch(end: int) -> int:
    return whole(QUERY_ROWS * (HEAD_SIZE + LANES + whole(end)))


def _sizes(rows: int, count: int) -> dict[str, float]:
    return {
        "layers": LAYERS, "hidden": HIDDEN, "hidden_stride": whole(HIDDEN) * FLOAT_BYTES, "heads": HEADS,
        "kv_heads": KV_HEADS, "head_size": HEAD_SIZE, "head_panels": 1, "qkv_stride": sum(QKV) * FLOAT_BYTES,
        "key_column": QKV[0], "value_column": QKV[0] + QKV[1], "inner_panels": whole(INNER) // LANES, "eps": EPS,
        "rotary_size": HEAD_SIZE,
        "rows": rows, "logit_count": count, "capacity": CAPACITY, "logits_stride": whole(VOCABULARY) * FLOAT_BYTES,
    }  # fmt: skip


def _tables(tokens: Floats, start: int, count: int) -> dict[str, float | Floats]:
    rows, positions = len(tokens), numpy.arange(start, start + len(tokens))
    blocks = -(-rows * (HEADS // KV_HEADS) // QUERY_ROWS)
    cos, sin = angles(positions, HEAD_SIZE)
    return {
        "tokens": tokens, "positions": positions, "slots": numpy.zeros(rows, numpy.int64), "cos": cos, "sin": sin,
        "logit_rows": numpy.arange(rows - count, rows), "chunks": 1, "blocks": blocks,
        "chunk_table": numpy.array([[0, rows, start, 0, 0]]), "scratch_bytes": _scratch(start + rows) * FLOAT_BYTES,
    }  # fmt: skip


@reference(serving_step, tolerance=1e-4)
def serving_step_case(size: int) -> Pairs:
    """A prompt of `size` tokens and one token more, with an adapter and without, to the bit on 1 to 3 threads."""
    random, pairs = numpy.random.default_rng(size), []
    for adapted, other in itertools.product((False, True), repeat=2):
        model, tokens = Model.of(random, other=other), random.integers(0, VOCABULARY, size + 1)
        steps = []
        for threads in THREADS:
            prompt = model.step(tokens[:size], 0, min(size, 2), threads, adapted)
            steps.append(numpy.concatenate([prompt, model.step(tokens[size:], size, 1, threads, adapted)]))
            assert numpy.array_equal(steps[-1], steps[0])
        pairs.append((steps[0], model.logits(tokens, adapted)[-len(steps[0]) :]))
    return pairs
