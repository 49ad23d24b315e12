"""Cases of a training step's attention on random trees, forward and backward."""

from dataclasses import dataclass
from enum import Enum
from itertools import product

import numpy
from numpy.typing import NDArray
from tests.kernels.reference import (
    EPS,
    Floats,
    Pairs,
    Record,
    angles,
    capped,
    counter,
    normal,
    reference,
    rms_norm,
    rotated,
    rotated_neighbours,
    to_panels,
    whole,
    wide,
)

from tunesmith.kernels.training import attention, attention_back, heads
from tunesmith.kernels.training.step_args import (
    KEY_ROWS,
    QUERY_TOKENS,
    TRAIN_LAYER,
    TRAIN_STEP_ARGS,
)
from tunesmith.kernels.vectors import LANES

HEADS, KV_HEADS, HEAD_SIZE = 4, 2, LANES
SCORE_SCALE = 0.3  # a family may have another than 1 / sqrt(head size)
WIDTH = (HEADS + 2 * KV_HEADS) * HEAD_SIZE


def random_until(random: numpy.random.Generator, rows: int) -> NDArray[numpy.int64]:
    """The end of each token's descendants in a tree whose tokens are in depth-first order."""
    until, open_tokens = numpy.full(rows, rows), list[int]()
    for token in range(rows):
        kept = len(open_tokens) if random.random() < 0.8 else int(random.integers(0, len(open_tokens) + 1))
        for ended in open_tokens[kept:]:
            until[ended] = token
        open_tokens[kept:] = [token]
    return until


QUERY_COPIES = ("query_panels", "query_columns", "grad_panels", "grad_columns")


def copies(heads: int, panels: int) -> Floats:
    """Of some heads of all tokens: in panels or in columns."""
    return numpy.zeros((heads, panels * HEAD_SIZE, LANES), numpy.float32)


def tree_args(random: numpy.random.Generator, rows: int) -> tuple[Record, Floats]:
    """A step's arguments for attention, and which token sees which: [rows, rows].

    Heads are rotated in half where there are few rows, and whole elsewhere; at one size neighbours are.
    """
    panels, until = whole(rows) // LANES, random_until(random, rows)
    padded = numpy.pad(until, (0, whole(rows) - rows))
    token, key = numpy.arange(rows)[:, None], numpy.arange(rows)[None]
    sees = (key <= token) & (until[None] > token)
    rotary = HEAD_SIZE if rows > LANES else HEAD_SIZE // 2
    positions = sees.sum(1) - 1
    tables = [angles(scale * positions, rotary) for scale in (1.0, 0.3)]
    cos, sin = (numpy.stack(table) for table in zip(*tables, strict=True))
    depths = numpy.pad(positions, (0, whole(rows) - rows))
    args = Record(
        TRAIN_STEP_ARGS,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_size=HEAD_SIZE,
        rotary_size=rotary,
        neighbours=rows % 5 == 2,
        score_scale=SCORE_SCALE,
        eps=EPS,
        rows=rows,
        panels=panels,
        cos=cos,
        sin=sin,
        until=padded,
        panel_until=padded.reshape(panels, LANES).max(1),
        panel_least=padded.reshape(panels, LANES).min(1),
        positions=depths,
        panel_low=depths.reshape(panels, LANES).min(1),
        panel_high=depths.reshape(panels, LANES).max(1),
        **{name: copies(KV_HEADS, panels) for name in ("key_panels", "value_columns", "key_columns")},
        **{name: copies(HEADS, panels) for name in QUERY_COPIES},
        score_grads=numpy.full(HEADS * (panels * LANES) ** 2, 7.0, numpy.float32),
        range_heads=KV_HEADS,
        range_panels=panels,
        grad_attended=normal(random, rows, HEADS, HEAD_SIZE),
        grad_qkv=numpy.zeros((rows, WIDTH), numpy.float32),
        delta=numpy.zeros((HEADS, rows), numpy.float32),
    )
    return args, sees


class Norms(Enum):
    """Of queries and keys."""

    NONE = 0
    HEADS = 1
    WIDE = 2  # of all heads together


@dataclass(frozen=True, slots=True)
class Way:
    """What a family's attention may do otherwise."""

    norms: Norms = Norms.NONE
    rotation: int = 1  # 0: none; else 1 + the index of its angles
    window: int = 0
    cap: float = 0.0


WAYS = (
    Way(),
    Way(Norms.HEADS),
    Way(rotation=0, window=5),
    Way(Norms.WIDE, rotation=2),
    Way(Norms.HEADS, rotation=2, window=17, cap=1.5),
)


def tree_layer(random: numpy.random.Generator, rows: int, way: Way) -> Record:
    """With norms `qkv` is another place than `raw`."""
    raw = normal(random, rows, WIDTH)
    fields = {
        "raw": raw,
        "qkv": raw if way.norms is Norms.NONE else numpy.zeros_like(raw),
        "attended": numpy.zeros((rows, HEADS, HEAD_SIZE), numpy.float32),
        "lse": numpy.zeros((HEADS, rows), numpy.float32),
    }
    if way.norms is not Norms.NONE:
        counts = (HEADS, KV_HEADS) if way.norms is Norms.WIDE else (1, 1)
        names = zip(("query_norm", "key_norm"), counts, strict=True)
        fields |= {name: normal(random, count * HEAD_SIZE) for name, count in names}
    return Record(TRAIN_LAYER, rotation=way.rotation, window=way.window, **fields)


@dataclass(frozen=True, slots=True)
class Tree:
    """What numpy says of attention over a tree, in float64."""

    args: Record
    layer: Record
    sees: Floats

    def qkv(self, raw: Floats) -> Floats:
        """As attention reads it, from what the linears computed [rows, heads + 2 kv heads, head size]."""
        parts = [raw[:, :HEADS], raw[:, HEADS : HEADS + KV_HEADS]]
        for index, name in enumerate(("query_norm", "key_norm")):
            if self.args.rows["wide_norms"][0]:
                flat = rms_norm(parts[index].reshape(len(raw), -1), wide(self.layer[name]))
                parts[index] = flat.reshape(parts[index].shape)
            elif self.layer.rows[name][0]:
                parts[index] = rms_norm(parts[index], wide(self.layer[name]))
            if rotation := self.layer.rows["rotation"][0]:
                cos, sin = (self.args[name][rotation - 1][:, None] for name in ("cos", "sin"))
                first, rest = numpy.split(parts[index], [cos.shape[-1]], -1)
                turned = rotated_neighbours if self.args.rows["neighbours"][0] else rotated
                parts[index] = numpy.concatenate([turned(first, cos, sin), rest], -1)
        return numpy.concatenate([*parts, raw[:, HEADS + KV_HEADS :]], 1)

    def attended(self, raw: Floats) -> tuple[Floats, Floats]:
        """The output [rows, heads, head size], and the log of the sum of exponentials [heads, rows]."""
        qkv = self.qkv(raw)
        keys, values = (
            numpy.repeat(part, HEADS // KV_HEADS, 1) for part in (qkv[:, HEADS:-KV_HEADS], qkv[:, -KV_HEADS:])
        )
        scores = self.capped(numpy.einsum("thd,khd->htk", qkv[:, :HEADS], keys) * SCORE_SCALE)
        exponentials = numpy.exp(scores) * self.seen
        sums = exponentials.sum(-1)
        return numpy.einsum("htk,khd->thd", exponentials / sums[..., None], values), numpy.log(sums)

    @property
    def seen(self) -> Floats:
        """Which token sees which in this layer [rows, rows]."""
        window, positions = self.layer.rows["window"][0], self.args["positions"][: len(self.sees)]
        apart = positions[:, None] - positions[None]
        return self.sees & (apart < window) if window else self.sees

    def capped(self, scores: Floats) -> Floats:
        cap = float(self.args.rows["score_cap"][0])
        return capped(scores, cap) if cap else scores


def forward(size: int, way: Way) -> tuple[Tree, Floats, int]:
    """A tree after the forward pass of attention; what the linears had computed, and a thread's scratch."""
    random = numpy.random.default_rng(size)
    args, sees = tree_args(random, size)
    args.set(score_cap=way.cap, wide_norms=way.norms is Norms.WIDE)
    tree = Tree(args, tree_layer(random, size, way), sees)
    raw = tree.layer["raw"].reshape(size, -1, HEAD_SIZE).copy()
    block = QUERY_TOKENS * (whole(size) + LANES)
    args.set(scratch=numpy.zeros(max(block, 2 * KEY_ROWS * LANES), numpy.float32))
    scratch = args["scratch"].ctypes.data
    heads.rotate_rows(args.one, counter(), tree.layer.one)
    attention.attend(args.one, counter(), tree.layer.one, scratch)
    return tree, raw, scratch


def panels_of(rows: Floats) -> Floats:
    """[rows, heads, head size] -> [heads, panels, head size, 16]."""
    return numpy.stack([to_panels(rows[:, head]) for head in range(rows.shape[1])])


def columns_of(rows: Floats) -> Floats:
    """[rows, heads, head size] -> [heads, head size / 16, 16 * panels, 16]."""
    padded = numpy.pad(rows, ((0, whole(len(rows)) - len(rows)), (0, 0), (0, 0)))
    return padded.reshape(len(padded), -1, HEAD_SIZE // LANES, LANES).transpose(1, 2, 0, 3)


@reference(heads.rotate_rows, heads.rotate_panel, heads.to_panels, heads.to_columns, attention.attend)
def attend_case(size: int) -> Pairs:
    """Over a random tree, in the ways of all families."""
    pairs: list[tuple[Floats, Floats]] = []
    for way in WAYS:
        tree, raw, _ = forward(size, way)
        qkv, (attended, lse) = tree.qkv(wide(raw)), tree.attended(wide(raw))
        pairs += [
            (tree.layer["qkv"].reshape(raw.shape), qkv),
            (tree.args["key_panels"], flat(panels_of(qkv[:, HEADS:-KV_HEADS]))),
            (tree.args["value_columns"], flat(columns_of(qkv[:, -KV_HEADS:]))),
            (tree.layer["attended"], attended),
            (tree.layer["lse"], lse),
        ]
    return pairs


def flat(copied: Floats) -> Floats:
    """As the arguments have it: [heads, …, 16]."""
    return copied.reshape(len(copied), -1, LANES)


@reference(
    attention_back.prepare_back,
    attention_back.attend_back,
    heads.rotate_head_back,
    heads.wide_norms_back,
    tolerance=1e-4,
)
def attend_back_case(size: int) -> Pairs:
    """The gradient of what the linears computed; its reference is that of numpy's forward pass.

    In one range, by key heads, and by key heads and two panels of queries.
    """
    pairs: list[tuple[Floats, Floats]] = []
    for way in WAYS:
        tree, raw, scratch = forward(size, way)
        args, layer, qkv = tree.args, tree.layer, tree.qkv(wide(raw))
        if way.norms is not Norms.NONE:
            layer["qkv"][:] = 7.0  # another layer has used it meanwhile
        attention_back.prepare_back(args.one, counter(), layer.one)
        grad, queries, keys = wide(args["grad_attended"]), qkv[:, :HEADS], qkv[:, HEADS:-KV_HEADS]
        for name, copied in (("query", queries), ("grad", grad)):
            pairs.append((args[f"{name}_panels"], flat(panels_of(copied))))
            pairs.append((args[f"{name}_columns"], flat(columns_of(copied))))
        pairs.append((args["key_columns"], flat(columns_of(keys))))
        pairs.append((args["delta"], (tree.attended(wide(raw))[0] * grad).sum(-1).T))
        expected = tree_gradient(tree, wide(raw))
        for count, panels in ((KV_HEADS, whole(size) // LANES), (1, whole(size) // LANES), (1, 2), (KV_HEADS, 1)):
            args.set(range_heads=count, range_panels=panels)
            args["grad_qkv"][:] = 7.0
            args["score_grads"][:] = numpy.nan
            attention_back.attend_back(args.one, counter(), 1, 0, layer.one, scratch)
            if way.norms is Norms.WIDE:
                heads.wide_norms_back(args.one, counter(), layer.one)
            pairs.append((args["grad_qkv"].reshape(raw.shape).copy(), expected))
    return pairs


def tree_gradient(tree: Tree, raw: Floats) -> Floats:
    """By the rules of softmax and products, then through norms and rotary embedding by central differences."""
    group, scale, grad = HEADS // KV_HEADS, SCORE_SCALE, wide(tree.args["grad_attended"])
    qkv = tree.qkv(raw)
    result = numpy.zeros(qkv.shape)
    for head in range(HEADS):
        key, value = HEADS + head // group, HEADS + KV_HEADS + head // group
        scores = tree.capped(qkv[:, head] @ qkv[:, key].T * scale)
        weights = numpy.exp(scores) * tree.seen
        weights /= weights.sum(1, keepdims=True)
        by_weights = grad[:, head] @ qkv[:, value].T
        by_scores = weights * (by_weights - (weights * by_weights).sum(1, keepdims=True)) * scale
        if cap := float(tree.args.rows["score_cap"][0]):
            by_scores *= 1 - (scores / cap) ** 2
        result[:, head] += by_scores @ qkv[:, key]
        result[:, key] += by_scores.T @ qkv[:, head]
        result[:, value] += weights.T @ grad[:, head]
    return through_heads(tree, raw, result)


def through_heads(tree: Tree, raw: Floats, grad: Floats) -> Floats:
    """Each number of a head moves this head's results only, so one difference serves all heads and rows.

    Where a norm is of all heads each number has a difference of its own, which serves all rows.
    """
    result, step, together = numpy.zeros(raw.shape), 1e-6, bool(tree.args.rows["wide_norms"][0])
    moved = [slice(head, head + 1) for head in range(raw.shape[1])] if together else [slice(None)]
    for here, index in product(moved, range(HEAD_SIZE)):
        move = numpy.zeros(raw.shape[1:])
        move[here, index] = step
        change = (tree.qkv(raw + move) - tree.qkv(raw - move)) * grad / (2 * step)
        result[:, here, index] = change.sum((1, 2))[:, None] if together else change.sum(-1)
    return result
