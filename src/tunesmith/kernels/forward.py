"""A whole step of the Llama family as one compiled function, which a team of threads runs together.

Embedding, RMSNorm, rotary embedding, attention, gated MLP and output layer, with LoRA updates beside every linear, by
the formulas of transformers' models. Each sum has an order of its own that other rows, threads and steps do not change:
a sequence's logits are the same to the bit in any company.

Numbers that are handed on are written number(0), not 0: Numba compiles a function anew for each literal.
"""

from tunesmith.kernels.attention import attend, rotate_rows
from tunesmith.kernels.compiled import compiled, entry, number
from tunesmith.kernels.elementwise import floats, rms_norm, table
from tunesmith.kernels.linear import ROW_BYTES, gate_up, linear, low_products
from tunesmith.kernels.step_args import ATTENTION_PHASES, COUNTER_BYTES, LINES, MLP_PHASES, SEGMENT_COLUMNS, Job, Jobs
from tunesmith.kernels.thread_pool import barrier, begin, claim, next_step, wanted_threads
from tunesmith.kernels.vectors import keep_apart


@entry
def work(member: int, threads: int, jobs: Jobs, layers: Jobs, lines: Jobs) -> None:
    """Member 0: one step, together with `threads` - 1 others. The others: their part of steps until the team is closed.

    One function for both, since compiling it takes most of a minute.
    """
    team = jobs[0].team
    if member == 0:
        if threads > 1:
            begin(team, threads)
        _step(member, threads, jobs, layers, lines)
        return
    seen = next_step(team, 0)
    while seen >= 0:
        threads = wanted_threads(team)
        if member < threads:
            _step(member, threads, jobs, layers, lines)
        seen = next_step(team, seen)


@compiled
def _step(member: int, threads: int, jobs: Jobs, layers: Jobs, lines: Jobs) -> None:
    keep_apart()
    j = jobs[0]
    counter = j.counters
    _embed(j, counter)
    counter += COUNTER_BYTES
    barrier(j.team, threads)
    for index in range(j.layers):
        _attention(j, counter, threads, j.scratch + member * j.scratch_bytes, index, layers, lines)
        _mlp(j, counter + ATTENTION_PHASES * COUNTER_BYTES, threads, index, layers, lines)
        counter += (ATTENTION_PHASES + MLP_PHASES) * COUNTER_BYTES
    if j.wanted:
        _norm_wanted(j, counter)
        barrier(j.team, threads)
        segments = table(j.segment_table, 0, SEGMENT_COLUMNS)
        head = lines[LINES * j.layers]
        out = counter + COUNTER_BYTES
        linear(
            j,
            out,
            threads,
            j.wanted,
            segments,
            number(-1),
            head,
            j.normed,
            j.hidden_stride,
            j.logits,
            j.logits_stride,
            number(0),
        )
    barrier(j.team, threads)


@compiled
def _attention(j: Job, counter: int, threads: int, scratch: int, index: int, layers: Jobs, lines: Jobs) -> None:
    layer, qkv, output = layers[index], lines[LINES * index], lines[LINES * index + 1]
    segments = table(j.segment_table, j.segments, SEGMENT_COLUMNS)
    line, stride = LINES * index, j.hidden_stride
    _norm_rows(j, counter, layer.attention_norm)
    barrier(j.team, threads)
    counter += COUNTER_BYTES
    if j.segments:
        low_products(j, counter, segments, line, j.normed, qkv.length, stride)
        barrier(j.team, threads)
    counter += COUNTER_BYTES
    linear(j, counter, threads, j.rows, segments, line, qkv, j.normed, stride, j.qkv, j.qkv_stride, number(0))
    barrier(j.team, threads)
    counter += COUNTER_BYTES
    rotate_rows(j, counter, layer)
    barrier(j.team, threads)
    counter += COUNTER_BYTES
    attend(j, counter, layer, scratch)
    barrier(j.team, threads)
    counter += COUNTER_BYTES
    attended = j.heads * j.head * 4
    if j.segments:
        low_products(j, counter, segments, line + 1, j.attended, output.length, attended)
        barrier(j.team, threads)
    counter += COUNTER_BYTES
    linear(j, counter, threads, j.rows, segments, line + 1, output, j.attended, attended, j.stream, stride, number(1))
    barrier(j.team, threads)


@compiled
def _mlp(j: Job, counter: int, threads: int, index: int, layers: Jobs, lines: Jobs) -> None:
    layer, wide, down = layers[index], lines[LINES * index + 2], lines[LINES * index + 3]
    segments = table(j.segment_table, j.segments, SEGMENT_COLUMNS)
    line = LINES * index
    _norm_rows(j, counter, layer.mlp_norm)
    barrier(j.team, threads)
    counter += COUNTER_BYTES
    if j.segments:
        low_products(j, counter, segments, line + 2, j.normed, wide.length, j.hidden_stride)
        barrier(j.team, threads)
    counter += COUNTER_BYTES
    gate_up(j, counter, threads, segments, line + 2, wide)
    barrier(j.team, threads)
    counter += COUNTER_BYTES
    stride = 2 * j.inner_panels * ROW_BYTES
    if j.segments:
        low_products(j, counter, segments, line + 3, j.gated, down.length, stride)
        barrier(j.team, threads)
    counter += COUNTER_BYTES
    linear(j, counter, threads, j.rows, segments, line + 3, down, j.gated, stride, j.stream, j.hidden_stride, number(1))
    barrier(j.team, threads)


@compiled
def _embed(j: Job, counter: int) -> None:
    tokens = table(j.tokens, j.rows, 1)
    row = claim(counter)
    while row < j.rows:
        source = floats(j.embedding + tokens[row, 0] * j.hidden * 4, j.hidden)
        target = floats(j.stream + row * j.hidden_stride, j.hidden)
        for i in range(j.hidden):
            target[i] = source[i]
        row = claim(counter)


@compiled
def _norm_rows(j: Job, counter: int, weight: int) -> None:
    row = claim(counter)
    while row < j.rows:
        offset = row * j.hidden_stride
        rms_norm(j.stream + offset, j.normed + offset, weight, j.hidden, j.eps)
        row = claim(counter)


@compiled
def _norm_wanted(j: Job, counter: int) -> None:
    rows = table(j.wanted_rows, j.wanted, 1)
    row = claim(counter)
    while row < j.wanted:
        source, target = j.stream + rows[row, 0] * j.hidden_stride, j.normed + row * j.hidden_stride
        rms_norm(source, target, j.final_norm, j.hidden, j.eps)
        row = claim(counter)
