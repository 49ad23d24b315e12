"""A serving step of Llama and its relatives as one compiled function.

A pool of threads runs it together: embedding, RMSNorm, rotary embedding, attention, gated MLP and output layer, with
LoRA beside every linear, by the formulas of transformers' models; what families do otherwise is data of the records.
Every sum has a fixed order that does not depend on other rows, threads or steps: a sequence's logits are the same to
the bit whatever it is batched with.

Constants that are passed on are written number(0), not 0: Numba compiles a function anew for each literal.
"""

from numpy import float32

from tunesmith.kernels.compiler import compiled, entry, number
from tunesmith.kernels.elementwise import floats, rms_norm, table
from tunesmith.kernels.records import LAYER_MATRICES, LayerMatrix, Records
from tunesmith.kernels.serving.attention import attend, rotate_rows
from tunesmith.kernels.serving.linear import gate_up, linear, prepare
from tunesmith.kernels.serving.step_args import (
    LAYER_PHASES,
    SEGMENT_COLUMNS,
    STEP_PHASES,
    LayerPhase,
    StepArgs,
    StepPhase,
)
from tunesmith.kernels.thread_pool import barrier, claim, counter_of, next_step, start_step, step_threads
from tunesmith.kernels.vectors import FLOAT_BYTES, PANEL_ROW_BYTES, no_inline
from tunesmith.kernels.widths import number_bytes, read_numbers


@entry
def serving_step(thread: int, threads: int, steps: Records, layers: Records, matrices: Records) -> None:
    """Runs one step on thread 0, and on the others their parts of steps.

    Thread 0 is helped by `threads` - 1 others, which return when the pool is closed. `steps`: one STEP_ARGS; `layers`:
    a LAYER each; `matrices`: LAYER_MATRICES of each layer, then the output layer's. The records hold addresses (see
    `step_args`), which must stay valid during the step. One function for both kinds of threads, since compiling it
    takes most of a minute.
    """
    pool = steps[0].pool
    if thread == 0:
        if threads > 1:
            start_step(pool, threads)
        _step(thread, threads, steps, layers, matrices)
        return
    seen = next_step(pool, 0)
    while seen >= 0:
        threads = step_threads(pool)
        if thread < threads:
            _step(thread, threads, steps, layers, matrices)
        seen = next_step(pool, seen)


@compiled
def _step(thread: int, threads: int, steps: Records, layers: Records, matrices: Records) -> None:
    no_inline()
    args = steps[0]
    _embed(args, counter_of(args.counters, StepPhase.EMBED))
    barrier(args.pool, threads)
    counters, scratch = counter_of(args.counters, number(STEP_PHASES)), args.scratch + thread * args.scratch_bytes
    for index in range(args.layers):
        _attention(args, counters, threads, scratch, index, layers, matrices)
        _mlp(args, counters, threads, scratch, index, layers, matrices)
        counters = counter_of(counters, number(LAYER_PHASES))
    if args.logit_count:
        _final_norm(args, counter_of(args.counters, StepPhase.FINAL_NORM))
        barrier(args.pool, threads)
        segments = table(args.segment_table, 0, SEGMENT_COLUMNS)
        head = matrices[LAYER_MATRICES * args.layers]
        linear(
            args,
            counter_of(args.counters, StepPhase.LOGITS),
            threads,
            args.logit_count,
            segments,
            number(-1),
            head,
            args.normed,
            args.hidden_stride,
            args.logits,
            args.logits_stride,
            number(0),
            scratch,
        )
    barrier(args.pool, threads)


@compiled
def _attention(
    args: StepArgs, counters: int, threads: int, scratch: int, index: int, layers: Records, matrices: Records
) -> None:
    """residual += norm(attention(norm(residual))); `counters`: those of the layer's phases."""
    first, layer, stride = LAYER_MATRICES * index, layers[index], args.hidden_stride
    qkv, output = matrices[first + LayerMatrix.QKV], matrices[first + LayerMatrix.OUTPUT]
    segments = table(args.segment_table, args.segments, SEGMENT_COLUMNS)
    source = _input(args, counter_of(counters, LayerPhase.ATTENTION_NORM), threads, layer.attention_norm)
    if args.segments or args.dots:
        counter = counter_of(counters, LayerPhase.QKV_LORA)
        prepare(args, counter, segments, first + LayerMatrix.QKV, source, qkv.length, stride)
        barrier(args.pool, threads)
    counter, matrix, out_stride = counter_of(counters, LayerPhase.QKV), first + LayerMatrix.QKV, args.qkv_stride
    rows = args.rows
    linear(
        args, counter, threads, rows, segments, matrix, qkv, source, stride, args.qkv, out_stride, number(0), scratch
    )
    barrier(args.pool, threads)
    rotate_rows(args, counter_of(counters, LayerPhase.ROTATE), layer)
    barrier(args.pool, threads)
    attend(args, counter_of(counters, LayerPhase.ATTEND), layer, scratch)
    barrier(args.pool, threads)
    attended, attended_stride = args.attended, args.heads * args.head_size * FLOAT_BYTES
    if args.segments or args.dots:
        counter = counter_of(counters, LayerPhase.OUTPUT_LORA)
        prepare(args, counter, segments, first + LayerMatrix.OUTPUT, attended, output.length, attended_stride)
        barrier(args.pool, threads)
    counter, matrix = counter_of(counters, LayerPhase.OUTPUT), first + LayerMatrix.OUTPUT
    out, add = _target(args, layer.attention_post_norm)
    linear(args, counter, threads, rows, segments, matrix, output, attended, attended_stride, out, stride, add, scratch)
    barrier(args.pool, threads)
    _add_branch(args, counter_of(counters, LayerPhase.ATTENTION_ADD), threads, layer.attention_post_norm)


@compiled
def _mlp(
    args: StepArgs, counters: int, threads: int, scratch: int, index: int, layers: Records, matrices: Records
) -> None:
    """residual += norm(mlp(norm(residual))); `counters`: those of the layer's phases."""
    first, layer, stride = LAYER_MATRICES * index, layers[index], args.hidden_stride
    wide, down = matrices[first + LayerMatrix.GATE_UP], matrices[first + LayerMatrix.DOWN]
    segments = table(args.segment_table, args.segments, SEGMENT_COLUMNS)
    source = _input(args, counter_of(counters, LayerPhase.MLP_NORM), threads, layer.mlp_norm)
    if args.segments or args.dots:
        counter = counter_of(counters, LayerPhase.GATE_UP_LORA)
        prepare(args, counter, segments, first + LayerMatrix.GATE_UP, source, wide.length, stride)
        barrier(args.pool, threads)
    counter, matrix = counter_of(counters, LayerPhase.GATE_UP), first + LayerMatrix.GATE_UP
    gate_up(args, counter, threads, segments, matrix, wide, source, scratch)
    barrier(args.pool, threads)
    activated, activated_stride = args.gate_up, 2 * args.inner_panels * PANEL_ROW_BYTES
    if args.segments or args.dots:
        counter = counter_of(counters, LayerPhase.DOWN_LORA)
        prepare(args, counter, segments, first + LayerMatrix.DOWN, activated, down.length, activated_stride)
        barrier(args.pool, threads)
    counter, matrix, rows = counter_of(counters, LayerPhase.DOWN), first + LayerMatrix.DOWN, args.rows
    out, add = _target(args, layer.mlp_post_norm)
    linear(args, counter, threads, rows, segments, matrix, down, activated, activated_stride, out, stride, add, scratch)
    barrier(args.pool, threads)
    _add_branch(args, counter_of(counters, LayerPhase.MLP_ADD), threads, layer.mlp_post_norm)


@compiled
def _embed(args: StepArgs, counter: int) -> None:
    """residual = the embeddings of the tokens, scaled."""
    tokens = table(args.tokens, args.rows, 1)
    row, stride, scale = claim(counter), args.hidden * number_bytes(args.embedding_kind), float32(args.embedding_scale)
    while row < args.rows:
        target = args.residual + row * args.hidden_stride
        read_numbers(args.embedding_kind, args.embedding + tokens[row, 0] * stride, target, args.hidden)
        numbers = floats(target, args.hidden)
        for i in range(args.hidden):
            numbers[i] *= scale
        row = claim(counter)


@compiled
def _input(args: StepArgs, counter: int, threads: int, weight: int) -> int:
    """Where attention or the MLP reads: normed = norm(residual), or residual in layers without this norm."""
    if weight == 0:
        return number(args.residual)
    row = claim(counter)
    while row < args.rows:
        offset = row * args.hidden_stride
        rms_norm(args.residual + offset, args.normed + offset, weight, args.hidden, args.eps)
        row = claim(counter)
    barrier(args.pool, threads)
    return number(args.normed)


@compiled
def _target(args: StepArgs, post_norm: int) -> tuple[int, int]:
    """Where the last linear of attention or MLP writes, and whether it adds to what is there.

    With a norm behind it or a scale it writes to normed, which nothing reads by then, and `_add_branch` adds.
    """
    if post_norm == 0 and args.branch_scale == 1.0:
        return number(args.residual), number(1)
    return number(args.normed), number(0)


@compiled
def _add_branch(args: StepArgs, counter: int, threads: int, post_norm: int) -> None:
    """residual += branch_scale * norm(normed), where `_target` says that the branch is there."""
    if post_norm == 0 and args.branch_scale == 1.0:
        return
    row, scale = claim(counter), float32(args.branch_scale)
    while row < args.rows:
        branch, offset = args.normed + row * args.hidden_stride, row * args.hidden_stride
        if post_norm:
            rms_norm(branch, branch, post_norm, args.hidden, args.eps)
        source, target = floats(branch, args.hidden), floats(args.residual + offset, args.hidden)
        for i in range(args.hidden):
            target[i] += source[i] * scale
        row = claim(counter)
    barrier(args.pool, threads)


@compiled
def _final_norm(args: StepArgs, counter: int) -> None:
    """normed = norm(residual), of the rows whose logits are computed."""
    rows = table(args.logit_rows, args.logit_count, 1)
    row = claim(counter)
    while row < args.logit_count:
        source, target = args.residual + rows[row, 0] * args.hidden_stride, args.normed + row * args.hidden_stride
        rms_norm(source, target, args.final_norm, args.hidden, args.eps)
        row = claim(counter)
