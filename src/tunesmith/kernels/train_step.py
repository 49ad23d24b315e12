"""Forward and backward pass of all layers of the Llama family, with LoRA, as one compiled function.

By the formulas of transformers' models. Frozen weights get no gradient; those of the adapter are added to. Each sum has
an order of its own, so a step's gradients are the same to the bit on any number of threads.
"""

from tunesmith.kernels.compiled import compiled, entry, number
from tunesmith.kernels.elementwise import gated, gated_back, rms_norm, rms_norm_back
from tunesmith.kernels.step_args import COUNTER_BYTES, LINES, Jobs
from tunesmith.kernels.thread_pool import barrier, begin, claim, next_step, wanted_threads
from tunesmith.kernels.train_args import BACKWARD_PHASES, FORWARD_PHASES, Step, TrainLayer
from tunesmith.kernels.train_attention import attend, attend_back, prepare_back, turn_rows
from tunesmith.kernels.train_linear import linear, linear_back, low_back, low_forward, repack
from tunesmith.kernels.vectors import keep_apart

FLOAT = 4


@entry
def train(member: int, threads: int, steps: Jobs, layers: Jobs, lines: Jobs, parts: Jobs) -> None:
    """As `forward.work`: member 0 takes one step together with the others, which stay until the team is closed."""
    team = steps[0].team
    if member == 0:
        if threads > 1:
            begin(team, threads)
        _pass(member, threads, steps, layers, lines, parts)
        return
    seen = next_step(team, 0)
    while seen >= 0:
        threads = wanted_threads(team)
        if member < threads:
            _pass(member, threads, steps, layers, lines, parts)
        seen = next_step(team, seen)


@compiled
def _pass(member: int, threads: int, steps: Jobs, layers: Jobs, lines: Jobs, parts: Jobs) -> None:
    keep_apart()
    j = steps[0]
    scratch, counter = j.scratch + member * j.scratch_bytes, j.counters
    if j.backward:
        for index in range(j.layers - 1, -1, -1):
            _mlp_back(j, counter, threads, scratch, index, layers, lines, parts)
            _attention_back(j, counter + 6 * COUNTER_BYTES, threads, scratch, index, layers, lines, parts)
            counter += BACKWARD_PHASES * COUNTER_BYTES
        return
    if j.adapted:
        repack(j, counter, lines, parts)
        barrier(j.team, threads)
    counter += COUNTER_BYTES
    for index in range(j.layers):
        _attention(j, counter, threads, scratch, index, layers, lines, parts)
        _mlp(j, counter + 7 * COUNTER_BYTES, threads, index, layers, lines, parts)
        counter += FORWARD_PHASES * COUNTER_BYTES


@compiled
def _attention(
    j: Step, counter: int, threads: int, scratch: int, index: int, layers: Jobs, lines: Jobs, parts: Jobs
) -> None:
    layer, qkv, output = layers[index], lines[LINES * index], lines[LINES * index + 1]
    _norm_rows(j, counter, layer.source, layer.attention_norm)
    barrier(j.team, threads)
    if j.adapted:
        low_forward(j, counter + COUNTER_BYTES, qkv, j.normed)
        barrier(j.team, threads)
    linear(j, counter + 2 * COUNTER_BYTES, threads, qkv, parts, j.normed, layer.raw, number(0))
    barrier(j.team, threads)
    turn_rows(j, counter + 3 * COUNTER_BYTES, layer)
    barrier(j.team, threads)
    attend(j, counter + 4 * COUNTER_BYTES, layer, scratch)
    barrier(j.team, threads)
    if j.adapted:
        low_forward(j, counter + 5 * COUNTER_BYTES, output, layer.attended)
        barrier(j.team, threads)
    linear(j, counter + 6 * COUNTER_BYTES, threads, output, parts, layer.attended, layer.middle, layer.source)
    barrier(j.team, threads)


@compiled
def _mlp(j: Step, counter: int, threads: int, index: int, layers: Jobs, lines: Jobs, parts: Jobs) -> None:
    layer, wide, down = layers[index], lines[LINES * index + 2], lines[LINES * index + 3]
    _norm_rows(j, counter, layer.middle, layer.mlp_norm)
    barrier(j.team, threads)
    if j.adapted:
        low_forward(j, counter + COUNTER_BYTES, wide, j.normed)
        barrier(j.team, threads)
    linear(j, counter + 2 * COUNTER_BYTES, threads, wide, parts, j.normed, layer.gated, number(0))
    barrier(j.team, threads)
    _open_rows(j, counter + 3 * COUNTER_BYTES, layer.gated)
    barrier(j.team, threads)
    if j.adapted:
        low_forward(j, counter + 4 * COUNTER_BYTES, down, j.opened)
        barrier(j.team, threads)
    linear(j, counter + 5 * COUNTER_BYTES, threads, down, parts, j.opened, layer.target, layer.middle)
    barrier(j.team, threads)


@compiled
def _mlp_back(
    j: Step, counter: int, threads: int, scratch: int, index: int, layers: Jobs, lines: Jobs, parts: Jobs
) -> None:
    """`grad`: by the layer's output -> by its middle."""
    layer, wide, down = layers[index], lines[LINES * index + 2], lines[LINES * index + 3]
    _open_and_norm(j, counter, layer)
    low_back(j, counter + COUNTER_BYTES, down, parts, j.grad, scratch)
    barrier(j.team, threads)
    linear_back(j, counter + 2 * COUNTER_BYTES, threads, down, parts, j.grad, j.opened, j.grad_opened, scratch)
    barrier(j.team, threads)
    _close_rows(j, counter + 3 * COUNTER_BYTES, layer.gated)
    barrier(j.team, threads)
    low_back(j, counter + 4 * COUNTER_BYTES, wide, parts, layer.gated, scratch)
    barrier(j.team, threads)
    linear_back(j, counter + 5 * COUNTER_BYTES, threads, wide, parts, layer.gated, j.normed, j.grad_normed, scratch)
    barrier(j.team, threads)


@compiled
def _attention_back(
    j: Step, counter: int, threads: int, scratch: int, index: int, layers: Jobs, lines: Jobs, parts: Jobs
) -> None:
    """`grad`: by the layer's middle, but for its MLP's part -> by its input. The first layer's is not needed."""
    layer, qkv, output = layers[index], lines[LINES * index], lines[LINES * index + 1]
    _norm_back(j, counter, layer.middle, layer.mlp_norm)
    barrier(j.team, threads)
    _norm_rows(j, counter + COUNTER_BYTES, layer.source, layer.attention_norm)
    low_back(j, counter + 2 * COUNTER_BYTES, output, parts, j.grad, scratch)
    barrier(j.team, threads)
    linear_back(
        j, counter + 3 * COUNTER_BYTES, threads, output, parts, j.grad, layer.attended, j.grad_attended, scratch
    )
    barrier(j.team, threads)
    prepare_back(j, counter + 4 * COUNTER_BYTES, layer)
    barrier(j.team, threads)
    attend_back(j, counter + 5 * COUNTER_BYTES, layer, scratch)
    barrier(j.team, threads)
    low_back(j, counter + 6 * COUNTER_BYTES, qkv, parts, j.grad_qkv, scratch)
    barrier(j.team, threads)
    wanted = j.grad_normed if index else 0
    linear_back(j, counter + 7 * COUNTER_BYTES, threads, qkv, parts, j.grad_qkv, j.normed, wanted, scratch)
    barrier(j.team, threads)
    if index:
        # The first phase of the next layer touches none of what this one writes.
        _norm_back(j, counter + 8 * COUNTER_BYTES, layer.source, layer.attention_norm)
        barrier(j.team, threads)


@compiled
def _norm_rows(j: Step, counter: int, source: int, weight: int) -> None:
    """normed = the rows of the source."""
    row, stride = claim(counter), j.hidden * FLOAT
    while row < j.rows:
        rms_norm(source + row * stride, j.normed + row * stride, weight, j.hidden, j.eps)
        row = claim(counter)


@compiled
def _norm_back(j: Step, counter: int, source: int, weight: int) -> None:
    """grad += the gradient through the norm of the source."""
    row, stride = claim(counter), j.hidden * FLOAT
    while row < j.rows:
        offset = row * stride
        rms_norm_back(source + offset, j.grad_normed + offset, j.grad + offset, weight, j.hidden, j.eps)
        row = claim(counter)


@compiled
def _open_rows(j: Step, counter: int, gates: int) -> None:
    """opened = silu(gate) * up."""
    row, stride = claim(counter), j.inner * FLOAT
    while row < j.rows:
        gate = gates + row * 2 * stride
        gated(gate, gate + stride, j.opened + row * stride, j.inner)
        row = claim(counter)


@compiled
def _open_and_norm(j: Step, counter: int, layer: TrainLayer) -> None:
    """What the forward pass did not keep of the MLP: its normed input and its opened gates."""
    row, stride, inner = claim(counter), j.hidden * FLOAT, j.inner * FLOAT
    while row < j.rows:
        gate = layer.gated + row * 2 * inner
        gated(gate, gate + inner, j.opened + row * inner, j.inner)
        rms_norm(layer.middle + row * stride, j.normed + row * stride, layer.mlp_norm, j.hidden, j.eps)
        row = claim(counter)


@compiled
def _close_rows(j: Step, counter: int, gates: int) -> None:
    """gate and up -> their gradients, from grad_opened."""
    row, stride = claim(counter), j.inner * FLOAT
    while row < j.rows:
        gate = gates + row * 2 * stride
        gated_back(gate, gate + stride, j.grad_opened + row * stride, j.inner)
        row = claim(counter)
