"""Cases of a serving step's kernels."""

import itertools

import numpy
from numpy.typing import NDArray
from tests.kernels.linears import Adapter, Linears, segments_of
from tests.kernels.reference import (
    EPS,
    KINDS,
    Floats,
    Pairs,
    Record,
    angles,
    capped,
    counter,
    gelu,
    normal,
    reference,
    rms_norm,
    rotated,
    silu,
    softmax,
    to_panels,
    whole,
    wide,
)

from tunesmith.kernels.records import Activation
from tunesmith.kernels.serving import attention, linear, packing
from tunesmith.kernels.serving.step_args import CHUNK_COLUMNS, LAYER, QUERY_ROWS, STEP_ARGS
from tunesmith.kernels.vectors import FLOAT_BYTES, HAS_HALF, LANES, Number

HEADS, KV_HEADS, HEAD_SIZE, CAPACITY, SLOTS = 4, 2, 20, 64, 2  # heads that fill no whole panels
HEAD_PANELS = whole(HEAD_SIZE) // LANES
KEY_COLUMN = whole(HEADS * HEAD_SIZE)
VALUE_COLUMN = KEY_COLUMN + whole(KV_HEADS * HEAD_SIZE)
QKV = VALUE_COLUMN + whole(KV_HEADS * HEAD_SIZE)


def cache(random: numpy.random.Generator) -> Record:
    """A layer with norms of heads and keys and values of all positions, of which a sequence sees its own only."""
    return Record(
        LAYER,
        query_norm=normal(random, HEAD_SIZE),
        key_norm=normal(random, HEAD_SIZE),
        rotation=1,
        keys=normal(random, SLOTS, KV_HEADS, CAPACITY // LANES, HEAD_SIZE, LANES),
        values=normal(random, SLOTS, KV_HEADS, HEAD_PANELS, CAPACITY, LANES),
    )


def keys_and_values(layer: Record) -> tuple[Floats, Floats]:
    """[slots, kv heads, capacity, head size] each."""
    shape = SLOTS, KV_HEADS, CAPACITY
    keys = layer["keys"].swapaxes(3, 4).reshape(*shape, HEAD_SIZE)
    values = layer["values"].swapaxes(2, 3).reshape(*shape, HEAD_PANELS * LANES)[..., :HEAD_SIZE]
    return wide(keys), wide(values)


def attention_args(random: numpy.random.Generator, rows: int) -> Record:
    return Record(
        STEP_ARGS,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_size=HEAD_SIZE,
        head_panels=HEAD_PANELS,
        qkv_stride=QKV * FLOAT_BYTES,
        key_column=KEY_COLUMN,
        value_column=VALUE_COLUMN,
        capacity=CAPACITY,
        rows=rows,
        eps=EPS,
        score_scale=HEAD_SIZE**-0.5,
        rotary_size=HEAD_SIZE,
        qkv=normal(random, rows, QKV),
        attended=numpy.zeros((rows, HEADS, HEAD_SIZE), numpy.float32),
    )


ROTATIONS = ((HEAD_SIZE, 1, False), (12, 2, False), (HEAD_SIZE, 0, False), (HEAD_SIZE, 1, True))


@reference(attention.rotate_rows)
def rotate_rows_case(size: int) -> Pairs:
    """Heads rotated whole, in part by the second table, or not at all, and normed one by one or all together."""
    return [pair for way in ROTATIONS for pair in rotate_rows_pairs(size, *way)]


def rotate_rows_pairs(size: int, rotary: int, rotation: int, together: bool) -> Pairs:
    """Rows of two sequences in turn; what is in other places of the cache stays."""
    random = numpy.random.default_rng(size)
    args, layer = attention_args(random, size), cache(random)
    positions, slots = random.permutation(CAPACITY)[:size], numpy.arange(size) % SLOTS
    tables = [angles(positions + 7 * other, rotary) for other in range(2)]
    both = [numpy.stack([table[which] for table in tables]) for which in range(2)]
    args.set(positions=positions, slots=slots, cos=both[0], sin=both[1], rotary_size=rotary, wide_norms=together)
    layer.set(rotation=rotation)
    if together:
        layer.set(query_norm=normal(random, HEADS * HEAD_SIZE), key_norm=normal(random, KV_HEADS * HEAD_SIZE))
    cos, sin = tables[max(rotation - 1, 0)]

    def turned(heads: Floats, norm: Floats) -> Floats:
        shape = (size, -1) if together else heads.shape
        normed = rms_norm(heads.reshape(shape), norm).reshape(heads.shape)
        first = rotated(normed[..., :rotary], cos[:, None], sin[:, None]) if rotation else normed[..., :rotary]
        return numpy.concatenate([first, normed[..., rotary:]], -1)

    heads = wide(args["qkv"])[:, : HEADS * HEAD_SIZE].reshape(size, HEADS, HEAD_SIZE)
    new_keys = wide(args["qkv"])[:, KEY_COLUMN:][:, : KV_HEADS * HEAD_SIZE].reshape(size, KV_HEADS, HEAD_SIZE)
    new_values = wide(args["qkv"])[:, VALUE_COLUMN:][:, : KV_HEADS * HEAD_SIZE].reshape(size, KV_HEADS, HEAD_SIZE)
    queries = turned(heads, layer["query_norm"])
    keys, values = keys_and_values(layer)
    keys[slots, :, positions] = turned(new_keys, layer["key_norm"])
    values[slots, :, positions] = new_values
    attention.rotate_rows(args.one, counter(), layer.one)
    got_queries = args["qkv"][:, : HEADS * HEAD_SIZE].reshape(size, HEADS, HEAD_SIZE)
    got_keys, got_values = keys_and_values(layer)
    return [(got_queries, queries), (got_keys, keys), (got_values, values)]


@reference(attention.attend)
def attend_case(size: int) -> Pairs:
    """With and without a window, of fewer and of more positions than a panel, and a cap."""
    return [pair for window, cap in ((0, 0.0), (3, 0.0), (LANES + 4, 2.0)) for pair in attend_pairs(size, window, cap)]


def attend_pairs(size: int, window: int, cap: float) -> Pairs:
    """A sequence of `size` tokens from its beginning, and the last tokens of another one as long."""
    random = numpy.random.default_rng(size)
    news, slots = (size, min(size, 3)), (1, 0)
    rows, group = sum(news), HEADS // KV_HEADS
    args, layer = attention_args(random, rows), cache(random)
    starts, first_rows = [size - new for new in news], [0, news[0]]
    blocks = [-(-new * group // QUERY_ROWS) for new in news]
    chunk_table = numpy.array([*zip(first_rows, news, starts, slots, [0, blocks[0]], strict=True)])
    assert chunk_table.shape == (2, CHUNK_COLUMNS)
    scratch = numpy.zeros(QUERY_ROWS * (HEAD_SIZE + HEAD_PANELS * LANES + whole(size)), numpy.float32)
    args.set(chunks=2, blocks=sum(blocks), chunk_table=chunk_table, score_cap=cap)
    layer.set(window=window)
    attention.attend(args.one, counter(), layer.one, scratch.ctypes.data)
    queries = wide(args["qkv"])[:, : HEADS * HEAD_SIZE].reshape(rows, HEADS, HEAD_SIZE)
    keys, values = keys_and_values(layer)
    expected = numpy.zeros((rows, HEADS, HEAD_SIZE))
    for row, new, start, slot, _ in chunk_table:
        for token in range(new):
            for head in range(HEADS):
                place = start + token + 1
                seen = slot, head // group, slice(max(place - window, 0) if window else 0, place)
                scores = keys[seen] @ queries[row + token, head] / HEAD_SIZE**0.5
                expected[row + token, head] = softmax(capped(scores, cap) if cap else scores) @ values[seen]
    return [(args["attended"], expected)]


def lora_args(random: numpy.random.Generator, size: int, linears: Linears) -> tuple[Record, NDArray[numpy.int64]]:
    """Half the rows with an adapter, most others with another one; the second matrix of each table is meant."""
    adapters = [Adapter.of(random, [None, linears], ranks) for ranks in ((3, 20), (0, 2 * LANES))]
    segments, width, hidden, _ = segments_of(adapters, wide(linears.x), 1)
    args = Record(STEP_ARGS, rows=size, segments=len(segments), lora_panels=width // LANES, lora_hidden=hidden)
    _kept[:] = adapters
    return args, segments


_kept: list[Adapter] = []


@reference(linear.prepare)
def prepare_case(size: int) -> Pairs:
    """`size` rows of `size` numbers."""
    random = numpy.random.default_rng(size)
    linears = Linears.of(random, size, size, (20, 33))
    args, segments = lora_args(random, size, linears)
    expected, x = wide(args["lora_hidden"]), linears.x
    args["lora_hidden"][:] = 0
    linear.prepare(args.one, counter(), segments, 1, x.ctypes.data, size, x.strides[0])
    return [(args["lora_hidden"], expected)]


@reference(linear.linear)
def linear_case(size: int) -> Pairs:
    """`size` rows of `size` numbers: in every format, added to what is there or not, with adapters or none."""
    random, pairs = numpy.random.default_rng(size), []
    linears = Linears.of(random, size, size, (20, 33))
    for kind in KINDS:
        for add in range(2):
            for bias in range(2):
                args, segments = lora_args(random, size, linears)
                updates = segments_of(_kept, wide(linears.x), 1)[3]
                matrix, x, index = linears.matrix(kind, bias), linears.x, 1 if add == bias else -1
                out = normal(random, size, linears.columns)
                expected = linears.product(kind, bias) + add * out + (updates if index == 1 else 0)
                target = out.ctypes.data, out.strides[0]
                source = x.ctypes.data, x.strides[0]
                linear.linear(args.one, counter(), 2, size, segments, index, matrix.one, *source, *target, add, 0)
                pairs.append((out, expected))
    return pairs


@reference(linear.gate_up)
def gate_up_case(size: int) -> Pairs:
    """`size` rows of `size` numbers to `size` gates, in every format."""
    random, pairs = numpy.random.default_rng(size), []
    linears = Linears.of(random, size, size, (size, size))
    activations = ((Activation.SILU, silu), (Activation.GELU_TANH, gelu))
    for kind, (activation, formula) in itertools.product(KINDS, activations):
        args, segments = lora_args(random, size, linears)
        updates = segments_of(_kept, wide(linears.x), 1)[3]
        gates = numpy.zeros((size, linears.columns), numpy.float32)
        matrix, columns = linears.matrix(kind, 1), linears.columns // 2
        stride = linears.x.strides[0]
        args.set(hidden_stride=stride, inner_panels=columns // LANES, gate_up=gates, activation=activation)
        linear.gate_up(args.one, counter(), 2, segments, 1, matrix.one, linears.x.ctypes.data, 0)
        both = linears.product(kind, 1) + updates
        pairs.append((gates[:, :columns], formula(both[:, :columns]) * both[:, columns:]))
    return pairs


@reference(packing.pack_squares, sizes=(LANES, 3 * LANES, 5 * LANES), reason="whole squares only", tolerance=0)
def pack_squares_case(size: int) -> Pairs:
    """Numbers of which float16 and bfloat16 have all bits, from each format to each."""
    random, pairs = numpy.random.default_rng(size), []
    numbers = random.integers(-128, 128, (2 * size, size)).astype(numpy.float32) / 64
    brain = (numbers.view(numpy.uint32) >> 16).astype(numpy.uint16)
    sources: list[Floats] = [numbers, brain, *([numbers.astype(numpy.float16)] if HAS_HALF else [])]
    for stored in sources:
        for kind in (
            numpy.float32,
            *([numpy.float16] if HAS_HALF else []),
            *([numpy.uint16] if stored is brain else []),
        ):
            panels = numpy.zeros((2 * size // LANES, size, LANES), kind)
            args = numpy.zeros(1, packing.PACK_ARGS)
            args["source"], args["source_kind"] = stored.ctypes.data, PACK_KINDS[stored.dtype.type]
            args["target"], args["target_kind"] = panels.ctypes.data, PACK_KINDS[kind]
            args["panels"], args["inputs"] = len(panels), size
            packing.pack_squares(args)
            got = (panels.astype(numpy.uint32) << 16).view(numpy.float32) if kind is numpy.uint16 else panels
            pairs.append((got, wide(to_panels(numbers))))
    return pairs


PACK_KINDS = {
    numpy.float32: Number.FLOAT32,
    numpy.float16: Number.FLOAT16,
    numpy.uint16: Number.BFLOAT16,
}
