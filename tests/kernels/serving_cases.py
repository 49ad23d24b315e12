"""Cases of a serving step's kernels."""

import numpy
from numpy.typing import NDArray
from tests.kernels.linears import Adapter, Linears, segments_of
from tests.kernels.reference import (
    EPS,
    Floats,
    Pairs,
    Record,
    angles,
    counter,
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

from tunesmith.kernels.multiply import HAS_HALF
from tunesmith.kernels.serving import attention, linear, packing
from tunesmith.kernels.serving.step_args import CHUNK_COLUMNS, LAYER, QUERY_ROWS, STEP_ARGS
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES

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
        qkv=normal(random, rows, QKV),
        attended=numpy.zeros((rows, HEADS, HEAD_SIZE), numpy.float32),
    )


@reference(attention.rotate_rows)
def rotate_rows_case(size: int) -> Pairs:
    """Rows of two sequences in turn; what is in other places of the cache stays."""
    random = numpy.random.default_rng(size)
    args, layer = attention_args(random, size), cache(random)
    positions, slots = random.permutation(CAPACITY)[:size], numpy.arange(size) % SLOTS
    cos, sin = angles(positions, HEAD_SIZE)
    args.set(positions=positions, slots=slots, cos=cos, sin=sin)
    heads = wide(args["qkv"])[:, : HEADS * HEAD_SIZE].reshape(size, HEADS, HEAD_SIZE)
    new_keys = wide(args["qkv"])[:, KEY_COLUMN:][:, : KV_HEADS * HEAD_SIZE].reshape(size, KV_HEADS, HEAD_SIZE)
    new_values = wide(args["qkv"])[:, VALUE_COLUMN:][:, : KV_HEADS * HEAD_SIZE].reshape(size, KV_HEADS, HEAD_SIZE)
    queries = rotated(rms_norm(heads, layer["query_norm"]), cos[:, None], sin[:, None])
    keys, values = keys_and_values(layer)
    keys[slots, :, positions] = rotated(rms_norm(new_keys, layer["key_norm"]), cos[:, None], sin[:, None])
    values[slots, :, positions] = new_values
    attention.rotate_rows(args.one, counter(), layer.one)
    got_queries = args["qkv"][:, : HEADS * HEAD_SIZE].reshape(size, HEADS, HEAD_SIZE)
    got_keys, got_values = keys_and_values(layer)
    return [(got_queries, queries), (got_keys, keys), (got_values, values)]


@reference(attention.attend)
def attend_case(size: int) -> Pairs:
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
    args.set(chunks=2, blocks=sum(blocks), chunk_table=chunk_table)
    attention.attend(args.one, counter(), layer.one, scratch.ctypes.data)
    queries = wide(args["qkv"])[:, : HEADS * HEAD_SIZE].reshape(rows, HEADS, HEAD_SIZE)
    keys, values = keys_and_values(layer)
    expected = numpy.zeros((rows, HEADS, HEAD_SIZE))
    for row, new, start, slot, _ in chunk_table:
        for token in range(new):
            for head in range(HEADS):
                seen = slot, head // group, slice(start + token + 1)
                weights = softmax(keys[seen] @ queries[row + token, head] / HEAD_SIZE**0.5)
                expected[row + token, head] = weights @ values[seen]
    return [(args["attended"], expected)]


def lora_args(random: numpy.random.Generator, size: int, linears: Linears) -> tuple[Record, NDArray[numpy.int64]]:
    """Half the rows with an adapter, most others with another one; the second matrix of each table is meant."""
    adapters = [Adapter.of(random, [None, linears], ranks) for ranks in ((3, 20), (0, 2 * LANES))]
    segments, width, hidden, _ = segments_of(adapters, wide(linears.x), 1)
    args = Record(STEP_ARGS, rows=size, segments=len(segments), lora_panels=width // LANES, lora_hidden=hidden)
    _kept[:] = adapters
    return args, segments


_kept: list[Adapter] = []


@reference(linear.lora_hidden)
def lora_hidden_case(size: int) -> Pairs:
    """`size` rows of `size` numbers."""
    random = numpy.random.default_rng(size)
    linears = Linears.of(random, size, size, (20, 33))
    args, segments = lora_args(random, size, linears)
    expected, x = wide(args["lora_hidden"]), linears.x
    args["lora_hidden"][:] = 0
    linear.lora_hidden(args.one, counter(), segments, 1, x.ctypes.data, size, x.strides[0])
    return [(args["lora_hidden"], expected)]


@reference(linear.linear)
def linear_case(size: int) -> Pairs:
    """`size` rows of `size` numbers: by float32 and float16, added to what is there or not, with adapters or none."""
    random, pairs = numpy.random.default_rng(size), []
    linears = Linears.of(random, size, size, (20, 33))
    for half in range(1 + HAS_HALF):
        for add in range(2):
            for bias in range(2):
                args, segments = lora_args(random, size, linears)
                updates = segments_of(_kept, wide(linears.x), 1)[3]
                matrix, x, index = linears.matrix(half, bias), linears.x, 1 if add == bias else -1
                out = normal(random, size, linears.columns)
                expected = linears.product(half, bias) + add * out + (updates if index == 1 else 0)
                args.set(half=half)
                target = out.ctypes.data, out.strides[0]
                source = x.ctypes.data, x.strides[0]
                linear.linear(args.one, counter(), 2, size, segments, index, matrix.one, *source, *target, add)
                pairs.append((out, expected))
    return pairs


@reference(linear.gate_up)
def gate_up_case(size: int) -> Pairs:
    """`size` rows of `size` numbers to `size` gates, in float32 and float16."""
    random, pairs = numpy.random.default_rng(size), []
    linears = Linears.of(random, size, size, (size, size))
    for half in range(1 + HAS_HALF):
        args, segments = lora_args(random, size, linears)
        updates = segments_of(_kept, wide(linears.x), 1)[3]
        gates = numpy.zeros((size, linears.columns), numpy.float32)
        matrix, columns = linears.matrix(half, 1), linears.columns // 2
        stride = linears.x.strides[0]
        args.set(half=half, normed=linears.x, hidden_stride=stride, inner_panels=columns // LANES, gate_up=gates)
        linear.gate_up(args.one, counter(), 2, segments, 1, matrix.one)
        both = linears.product(half, 1) + updates
        pairs.append((gates[:, :columns], silu(both[:, :columns]) * both[:, columns:]))
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
    numpy.float32: packing.Kind.FLOAT32,
    numpy.float16: packing.Kind.FLOAT16,
    numpy.uint16: packing.Kind.BFLOAT16,
}
