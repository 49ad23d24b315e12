"""Heads between the linears and attention: norms, rotary embedding, copies.

Of queries, keys and values, forward and backward. Copies are as `attention` reads them: panels of 16 tokens, and
columns.
"""

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import (
    floats,
    rms_norm,
    rms_norm_back_in_place,
    rotate,
    rotate_back,
    rotate_neighbours,
    rotate_neighbours_back,
)
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.training.step_args import TrainLayer, TrainStepArgs
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES, Number, transposer

_transpose = transposer(Number.FLOAT32)


@compiled
def qkv_stride(args: TrainStepArgs) -> int:
    """Bytes from one row of qkv to the next."""
    return (args.heads + 2 * args.kv_heads) * head_bytes(args)


@compiled
def head_bytes(args: TrainStepArgs) -> int:
    """Bytes of one token's head."""
    return args.head_size * FLOAT_BYTES


@compiled
def copied_bytes(args: TrainStepArgs) -> int:
    """Bytes of one head of all tokens, in panels or in columns."""
    return args.panels * args.head_size * PANEL_ROW_BYTES


@compiled
def angle_place(args: TrainStepArgs, layer: TrainLayer, row: int) -> int:
    """Bytes from the first angle to those of a row in this layer, which is rotated."""
    return ((layer.rotation - 1) * args.rows + row) * args.rotary_size * FLOAT_BYTES


@compiled
def rotate_rows(args: TrainStepArgs, counter: int, layer: TrainLayer) -> None:
    """layer.qkv = layer.raw with queries and keys normalized and rotated.

    Keys are copied to args.key_panels, and values to args.value_columns. A piece of work is a panel of tokens.
    """
    panel = claim(counter)
    while panel < args.panels:
        rotate_panel(args, layer, panel)
        keys = layer.qkv + args.heads * head_bytes(args)
        to_panels(args, keys, qkv_stride(args), args.kv_heads, args.key_panels, panel)
        values = keys + args.kv_heads * head_bytes(args)
        to_columns(args, values, qkv_stride(args), args.kv_heads, args.value_columns, panel)
        panel = claim(counter)


@compiled
def rotate_panel(args: TrainStepArgs, layer: TrainLayer, panel: int) -> None:
    """The qkv of a panel of tokens, from what the linears computed."""
    for row in range(panel * LANES, min(panel * LANES + LANES, args.rows)):
        offset, angle = row * qkv_stride(args), angle_place(args, layer, row)
        if args.wide_norms:
            keys, size = offset + args.heads * head_bytes(args), args.kv_heads * args.head_size
            rms_norm(layer.raw + offset, layer.qkv + offset, layer.query_norm, args.heads * args.head_size, args.eps)
            rms_norm(layer.raw + keys, layer.qkv + keys, layer.key_norm, size, args.eps)
        for head in range(args.heads + args.kv_heads):
            place = offset + head * head_bytes(args)
            norm = layer.query_norm if head < args.heads else layer.key_norm
            if norm and not args.wide_norms:
                rms_norm(layer.raw + place, layer.qkv + place, norm, args.head_size, args.eps)
            if layer.rotation and args.neighbours:
                rotate_neighbours(layer.qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
            elif layer.rotation:
                rotate(layer.qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
        if layer.qkv != layer.raw:
            values, size = offset + (args.heads + args.kv_heads) * head_bytes(args), args.kv_heads * args.head_size
            source, target = floats(layer.raw + values, size), floats(layer.qkv + values, size)
            for i in range(size):
                target[i] = source[i]


@compiled
def to_panels(args: TrainStepArgs, source: int, stride: int, heads: int, target: int, panel: int) -> None:
    """Copies a panel of tokens of some heads: [16, head] -> [head, 16].

    The target is [heads, panels, head, 16]. `source`: the first token's first head, `stride` bytes before that of the
    second token.
    """
    first, size = panel * LANES, args.head_size
    for head in range(heads):
        place = target + head * copied_bytes(args) + panel * size * PANEL_ROW_BYTES
        here = source + first * stride + head * head_bytes(args)
        if args.rows - first >= LANES:
            for block in range(size // LANES):
                _transpose(here + block * PANEL_ROW_BYTES, stride, place + block * LANES * PANEL_ROW_BYTES)
        else:
            panel_numbers = floats(place, size * LANES)
            for lane in range(args.rows - first):
                numbers = floats(here + lane * stride, size)
                for i in range(size):
                    panel_numbers[i * LANES + lane] = numbers[i]


@compiled
def to_columns(args: TrainStepArgs, source: int, stride: int, heads: int, target: int, panel: int) -> None:
    """Copies a panel of tokens of some heads: [16, head] -> [head / 16, 16, 16].

    The target is [heads, head / 16, tokens, 16]. `source`: as for `to_panels`.
    """
    first = panel * LANES
    for head in range(heads):
        for column in range(args.head_size // LANES):
            place = target + head * copied_bytes(args) + (column * args.panels + panel) * LANES * PANEL_ROW_BYTES
            here = source + first * stride + head * head_bytes(args) + column * PANEL_ROW_BYTES
            for row in range(min(LANES, args.rows - first)):
                numbers, copy = (
                    floats(here + row * stride, number(LANES)),
                    floats(place + row * PANEL_ROW_BYTES, number(LANES)),
                )
                for i in range(LANES):
                    copy[i] = numbers[i]


@compiled
def rotate_head_back(args: TrainStepArgs, layer: TrainLayer, row: int, head: int, norm: int) -> None:
    """Takes grad_qkv of one head back through rotary embedding and norm.

    From the gradient of what attention reads to that of what the linears computed, in place.
    """
    place, angle = row * qkv_stride(args) + head * head_bytes(args), angle_place(args, layer, row)
    if layer.rotation and args.neighbours:
        rotate_neighbours_back(args.grad_qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
    elif layer.rotation:
        rotate_back(args.grad_qkv + place, args.cos + angle, args.sin + angle, args.rotary_size)
    if norm and not args.wide_norms:
        rms_norm_back_in_place(layer.raw + place, args.grad_qkv + place, norm, args.head_size, args.eps)


@compiled
def wide_norms_back(args: TrainStepArgs, counter: int, layer: TrainLayer) -> None:
    """Takes grad_qkv back through norms that are of all heads together.

    In place; a piece of work is a row.
    """
    row, queries, keys = claim(counter), args.heads * args.head_size, args.kv_heads * args.head_size
    while row < args.rows:
        place = row * qkv_stride(args)
        rms_norm_back_in_place(layer.raw + place, args.grad_qkv + place, layer.query_norm, queries, args.eps)
        place += queries * FLOAT_BYTES
        rms_norm_back_in_place(layer.raw + place, args.grad_qkv + place, layer.key_norm, keys, args.eps)
        row = claim(counter)
