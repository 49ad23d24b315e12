"""Forward and backward pass of all layers of Llama and its relatives, with LoRA.

One compiled function, by the formulas of transformers' models; what families do otherwise is data of the records, and
a phase that a layer has no need of is left out. It computes the output layer too, in passes of its own.
Frozen weights get no gradient; the adapter's gradients are added to. Every sum has a fixed order, so a step's gradients
are the same to the bit on any number of threads.
"""

from tunesmith.kernels.compiler import compiled, entry, number
from tunesmith.kernels.records import LAYER_MATRICES, LayerMatrix, Records
from tunesmith.kernels.thread_pool import barrier, counter_of, next_step, start_step, step_threads
from tunesmith.kernels.training.attention import attend
from tunesmith.kernels.training.attention_back import attend_back, prepare_back
from tunesmith.kernels.training.head import head_back, head_logits
from tunesmith.kernels.training.heads import rotate_rows, wide_norms_back
from tunesmith.kernels.training.linear import linear, linear_back, lora_back, prepare, repack
from tunesmith.kernels.training.phase_times import Share, lap, meet, thread_times
from tunesmith.kernels.training.rows import (
    activate_and_norm,
    activate_rows,
    activate_rows_back,
    add_branch,
    branch_back,
    norm_back,
    norm_rows,
)
from tunesmith.kernels.training.step_args import (
    BACKWARD_PHASES,
    FORWARD_PHASES,
    PASS_PHASES,
    BackwardPhase,
    ForwardPhase,
    HeadPass,
    PassPhase,
    TrainMatrix,
    TrainStepArgs,
)
from tunesmith.kernels.vectors import no_inline


@entry
def training_step(
    thread: int, threads: int, steps: Records, layers: Records, matrices: Records, parts: Records
) -> None:
    """Runs one pass on thread 0, and on the others their parts of passes.

    Thread 0 is helped by `threads` - 1 others, which return when the pool is closed. `steps`: one TRAIN_STEP_ARGS,
    which says whether the pass is forward or backward; `layers`: a TRAIN_LAYER each; `matrices`: LAYER_MATRICES of each
    layer, and the output layer's; `parts`: a LORA_PART for each linear with LoRA. The records hold addresses (see
    `step_args`), which must stay valid from a forward pass to the end of its backward pass.
    """
    pool = steps[0].pool
    if thread == 0:
        if threads > 1:
            start_step(pool, threads)
        _pass(thread, threads, steps, layers, matrices, parts)
        return
    seen = next_step(pool, 0)
    while seen >= 0:
        threads = step_threads(pool)
        if thread < threads:
            _pass(thread, threads, steps, layers, matrices, parts)
        seen = next_step(pool, seen)


@compiled
def _pass(thread: int, threads: int, steps: Records, layers: Records, matrices: Records, parts: Records) -> None:
    no_inline()
    args = steps[0]
    if args.head:
        _head(args, threads, args.scratch + thread * args.scratch_bytes, matrices[LAYER_MATRICES * args.layers])
        return
    scratch, counters = args.scratch + thread * args.scratch_bytes, counter_of(args.counters, number(PASS_PHASES))
    times = thread_times(args.times, thread)
    if args.backward:
        for index in range(args.layers - 1, -1, -1):
            _mlp_back(args, counters, threads, times, scratch, index, layers, matrices, parts)
            _attention_back(args, counters, threads, times, scratch, index, layers, matrices, parts)
            counters = counter_of(counters, number(BACKWARD_PHASES))
        return
    if args.adapted:
        repack(args, counter_of(args.counters, PassPhase.REPACK), matrices, parts)
        meet(args.pool, threads, times, Share.LOW_RANK)
    for index in range(args.layers):
        _attention(args, counters, threads, times, scratch, index, layers, matrices, parts)
        _mlp(args, counters, threads, times, scratch, index, layers, matrices, parts)
        counters = counter_of(counters, number(FORWARD_PHASES))


@compiled
def _head(args: TrainStepArgs, threads: int, scratch: int, head: TrainMatrix) -> None:
    """A pass of the output layer."""
    counter = counter_of(args.counters, PassPhase.HEAD)
    if args.head == HeadPass.LOGITS:
        head_logits(args, counter, threads, head, scratch)
    else:
        head_back(args, counter, head, scratch)
    barrier(args.pool, threads)


@compiled
def _attention(
    args: TrainStepArgs,
    counters: int,
    threads: int,
    times: int,
    scratch: int,
    index: int,
    layers: Records,
    matrices: Records,
    parts: Records,
) -> None:
    """after_attention = source + norm(attention(norm(source))).

    `counters`: those of the layer's phases.
    """
    first, layer = LAYER_MATRICES * index, layers[index]
    qkv, output = matrices[first + LayerMatrix.QKV], matrices[first + LayerMatrix.OUTPUT]
    source = norm_rows(args, counter_of(counters, ForwardPhase.ATTENTION_NORM), layer.source, layer.attention_norm)
    meet(args.pool, threads, times, Share.NORMS)
    if args.adapted or args.dots:
        prepare(args, counter_of(counters, ForwardPhase.QKV_LORA), qkv, source)
        meet(args.pool, threads, times, Share.LOW_RANK)
    counter = counter_of(counters, ForwardPhase.QKV)
    linear(args, counter, times, qkv, parts, source, layer.raw, number(0), scratch)
    meet(args.pool, threads, times, Share.PRODUCTS_FORWARD)
    rotate_rows(args, counter_of(counters, ForwardPhase.ROTATE), layer)
    meet(args.pool, threads, times, Share.ROTATION)
    attend(args, counter_of(counters, ForwardPhase.ATTEND), layer, scratch)
    meet(args.pool, threads, times, Share.ATTENTION_FORWARD)
    if args.adapted or args.dots:
        prepare(args, counter_of(counters, ForwardPhase.OUTPUT_LORA), output, layer.attended)
        meet(args.pool, threads, times, Share.LOW_RANK)
    counter = counter_of(counters, ForwardPhase.OUTPUT)
    branch, post_norm = layer.attention_branch, layer.attention_post_norm
    target, addend = (branch, number(0)) if post_norm else (layer.after_attention, layer.source)
    linear(args, counter, times, output, parts, layer.attended, target, addend, scratch)
    meet(args.pool, threads, times, Share.PRODUCTS_FORWARD)
    if post_norm:
        counter = counter_of(counters, ForwardPhase.ATTENTION_ADD)
        add_branch(args, counter, branch, post_norm, layer.source, layer.after_attention)
        meet(args.pool, threads, times, Share.NORMS)


@compiled
def _mlp(
    args: TrainStepArgs,
    counters: int,
    threads: int,
    times: int,
    scratch: int,
    index: int,
    layers: Records,
    matrices: Records,
    parts: Records,
) -> None:
    """target = after_attention + norm(mlp(norm(after_attention))).

    `counters`: those of the layer's phases.
    """
    first, layer = LAYER_MATRICES * index, layers[index]
    wide, down = matrices[first + LayerMatrix.GATE_UP], matrices[first + LayerMatrix.DOWN]
    source = norm_rows(args, counter_of(counters, ForwardPhase.MLP_NORM), layer.after_attention, layer.mlp_norm)
    meet(args.pool, threads, times, Share.NORMS)
    if args.adapted or args.dots:
        prepare(args, counter_of(counters, ForwardPhase.GATE_UP_LORA), wide, source)
        meet(args.pool, threads, times, Share.LOW_RANK)
    counter = counter_of(counters, ForwardPhase.GATE_UP)
    linear(args, counter, times, wide, parts, source, layer.gate_up, number(0), scratch)
    meet(args.pool, threads, times, Share.PRODUCTS_FORWARD)
    activate_rows(args, counter_of(counters, ForwardPhase.ACTIVATE), layer.gate_up)
    meet(args.pool, threads, times, Share.ACTIVATION)
    if args.adapted or args.dots:
        prepare(args, counter_of(counters, ForwardPhase.DOWN_LORA), down, args.activated)
        meet(args.pool, threads, times, Share.LOW_RANK)
    counter = counter_of(counters, ForwardPhase.DOWN)
    branch, post_norm = layer.mlp_branch, layer.mlp_post_norm
    target, addend = (branch, number(0)) if post_norm else (layer.target, layer.after_attention)
    linear(args, counter, times, down, parts, args.activated, target, addend, scratch)
    meet(args.pool, threads, times, Share.PRODUCTS_FORWARD)
    if post_norm:
        counter = counter_of(counters, ForwardPhase.MLP_ADD)
        add_branch(args, counter, branch, post_norm, layer.after_attention, layer.target)
        meet(args.pool, threads, times, Share.NORMS)


@compiled
def _mlp_back(
    args: TrainStepArgs,
    counters: int,
    threads: int,
    times: int,
    scratch: int,
    index: int,
    layers: Records,
    matrices: Records,
    parts: Records,
) -> None:
    """Computes grad_normed, of the MLP's normalized input.

    From grad, of the layer's output.
    """
    first, layer = LAYER_MATRICES * index, layers[index]
    wide, down = matrices[first + LayerMatrix.GATE_UP], matrices[first + LayerMatrix.DOWN]
    counter = counter_of(counters, BackwardPhase.MLP_POST_NORM)
    grad = _branch_grad(args, counter, threads, times, layer.mlp_branch, layer.mlp_post_norm)
    source = activate_and_norm(args, counter_of(counters, BackwardPhase.ACTIVATE), layer)
    lap(times, Share.ACTIVATION)
    lora_back(args, counter_of(counters, BackwardPhase.DOWN_LORA), down, parts, grad, scratch)
    meet(args.pool, threads, times, Share.LOW_RANK)
    counter = counter_of(counters, BackwardPhase.DOWN)
    linear_back(args, counter, times, down, parts, grad, args.activated, args.grad_activated, scratch)
    meet(args.pool, threads, times, Share.PRODUCTS_BACK)
    activate_rows_back(args, counter_of(counters, BackwardPhase.ACTIVATE_BACK), layer.gate_up)
    meet(args.pool, threads, times, Share.ACTIVATION)
    lora_back(args, counter_of(counters, BackwardPhase.GATE_UP_LORA), wide, parts, layer.gate_up, scratch)
    meet(args.pool, threads, times, Share.LOW_RANK)
    counter = counter_of(counters, BackwardPhase.GATE_UP)
    linear_back(args, counter, times, wide, parts, layer.gate_up, source, args.grad_normed, scratch)
    meet(args.pool, threads, times, Share.PRODUCTS_BACK)


@compiled
def _attention_back(
    args: TrainStepArgs,
    counters: int,
    threads: int,
    times: int,
    scratch: int,
    index: int,
    layers: Records,
    matrices: Records,
    parts: Records,
) -> None:
    """Computes grad of the layer's input.

    From grad, of the layer's output, and grad_normed, of its MLP's input. Nothing needs the gradient of the first
    layer's input, which is left out.
    """
    first, layer = LAYER_MATRICES * index, layers[index]
    qkv, output = matrices[first + LayerMatrix.QKV], matrices[first + LayerMatrix.OUTPUT]
    norm_back(args, counter_of(counters, BackwardPhase.MLP_NORM_BACK), layer.after_attention, layer.mlp_norm)
    meet(args.pool, threads, times, Share.NORMS)
    counter = counter_of(counters, BackwardPhase.ATTENTION_POST_NORM)
    grad = _branch_grad(args, counter, threads, times, layer.attention_branch, layer.attention_post_norm)
    source = norm_rows(args, counter_of(counters, BackwardPhase.ATTENTION_NORM), layer.source, layer.attention_norm)
    lap(times, Share.NORMS)
    lora_back(args, counter_of(counters, BackwardPhase.OUTPUT_LORA), output, parts, grad, scratch)
    meet(args.pool, threads, times, Share.LOW_RANK)
    counter, attended = counter_of(counters, BackwardPhase.OUTPUT), layer.attended
    linear_back(args, counter, times, output, parts, grad, attended, args.grad_attended, scratch)
    meet(args.pool, threads, times, Share.PRODUCTS_BACK)
    prepare_back(args, counter_of(counters, BackwardPhase.PREPARE_ATTENTION), layer)
    meet(args.pool, threads, times, Share.ROTATION)
    attend_back(args, counter_of(counters, BackwardPhase.ATTEND), threads, times, layer, scratch)
    if args.wide_norms:
        wide_norms_back(args, counter_of(counters, BackwardPhase.WIDE_NORMS), layer)
        meet(args.pool, threads, times, Share.ROTATION)
    lora_back(args, counter_of(counters, BackwardPhase.QKV_LORA), qkv, parts, args.grad_qkv, scratch)
    meet(args.pool, threads, times, Share.LOW_RANK)
    counter, grad_source = counter_of(counters, BackwardPhase.QKV), args.grad_normed if index else 0
    linear_back(args, counter, times, qkv, parts, args.grad_qkv, source, grad_source, scratch)
    meet(args.pool, threads, times, Share.PRODUCTS_BACK)
    if index:
        # The first phase of the next layer reads and writes nothing that this one writes.
        norm_back(args, counter_of(counters, BackwardPhase.ATTENTION_NORM_BACK), layer.source, layer.attention_norm)
        meet(args.pool, threads, times, Share.NORMS)


@compiled
def _branch_grad(args: TrainStepArgs, counter: int, threads: int, times: int, branch: int, post_norm: int) -> int:
    """Where the gradient of what attention or the MLP adds is: grad, or with a norm behind these grad_branch."""
    if post_norm == 0:
        return number(args.grad)
    branch_back(args, counter, branch, post_norm)
    meet(args.pool, threads, times, Share.NORMS)
    return number(args.grad_branch)
