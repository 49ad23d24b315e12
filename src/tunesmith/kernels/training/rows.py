"""What a training step does row by row, and its gradients.

Norms of the residual stream and of what is added to it, and the MLP's activation.
"""

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import (
    floats,
    gelu_mul,
    gelu_mul_back,
    rms_norm,
    rms_norm_back,
    rms_norm_back_in_place,
    silu_mul,
    silu_mul_back,
)
from tunesmith.kernels.records import Activation
from tunesmith.kernels.thread_pool import claim
from tunesmith.kernels.training.step_args import TrainLayer, TrainStepArgs
from tunesmith.kernels.vectors import FLOAT_BYTES


@compiled
def norm_rows(args: TrainStepArgs, counter: int, source: int, weight: int) -> int:
    """normed = norm(source); where attention or the MLP reads.

    That is the source itself in layers without this norm.
    """
    if weight == 0:
        return number(source)
    row, stride = claim(counter), args.hidden * FLOAT_BYTES
    while row < args.rows:
        rms_norm(source + row * stride, args.normed + row * stride, weight, args.hidden, args.eps)
        row = claim(counter)
    return number(args.normed)


@compiled
def norm_back(args: TrainStepArgs, counter: int, source: int, weight: int) -> None:
    """grad += the gradient of the norm's input, from grad_normed of its output.

    Without the norm both are the same.
    """
    row, stride = claim(counter), args.hidden * FLOAT_BYTES
    while row < args.rows:
        offset = row * stride
        if weight:
            rms_norm_back(source + offset, args.grad_normed + offset, args.grad + offset, weight, args.hidden, args.eps)
        else:
            _add_row(args.grad_normed + offset, args.grad + offset, args.hidden)
        row = claim(counter)


@compiled
def add_branch(args: TrainStepArgs, counter: int, branch: int, weight: int, residual: int, target: int) -> None:
    """target = residual + norm(branch)."""
    row, stride = claim(counter), args.hidden * FLOAT_BYTES
    while row < args.rows:
        offset = row * stride
        rms_norm(branch + offset, target + offset, weight, args.hidden, args.eps)
        _add_row(residual + offset, target + offset, args.hidden)
        row = claim(counter)


@compiled
def branch_back(args: TrainStepArgs, counter: int, branch: int, weight: int) -> None:
    """grad_branch = the gradient of the branch, whose norm is added to the stream.

    From grad, of the residual stream.
    """
    row, stride = claim(counter), args.hidden * FLOAT_BYTES
    while row < args.rows:
        offset = row * stride
        source, target = floats(args.grad + offset, args.hidden), floats(args.grad_branch + offset, args.hidden)
        for i in range(args.hidden):
            target[i] = source[i]
        rms_norm_back_in_place(branch + offset, args.grad_branch + offset, weight, args.hidden, args.eps)
        row = claim(counter)


@compiled
def activate_rows(args: TrainStepArgs, counter: int, gates: int) -> None:
    """activated = activation(gate) * up."""
    row, stride = claim(counter), args.inner * FLOAT_BYTES
    while row < args.rows:
        _activate(args, gates + row * 2 * stride, args.activated + row * stride)
        row = claim(counter)


@compiled
def activate_and_norm(args: TrainStepArgs, counter: int, layer: TrainLayer) -> int:
    """Computes activated and the MLP's normalized input again; where the MLP reads.

    The forward pass does not keep them.
    """
    row, stride, inner = claim(counter), args.hidden * FLOAT_BYTES, args.inner * FLOAT_BYTES
    while row < args.rows:
        _activate(args, layer.gate_up + row * 2 * inner, args.activated + row * inner)
        if layer.mlp_norm:
            source, target = layer.after_attention + row * stride, args.normed + row * stride
            rms_norm(source, target, layer.mlp_norm, args.hidden, args.eps)
        row = claim(counter)
    return number(args.normed) if layer.mlp_norm else number(layer.after_attention)


@compiled
def activate_rows_back(args: TrainStepArgs, counter: int, gates: int) -> None:
    """Replaces gate and up by their gradients, from grad_activated."""
    row, stride = claim(counter), args.inner * FLOAT_BYTES
    while row < args.rows:
        gate, grad = gates + row * 2 * stride, args.grad_activated + row * stride
        if args.activation == Activation.GELU_TANH:
            gelu_mul_back(gate, gate + stride, grad, args.inner)
        else:
            silu_mul_back(gate, gate + stride, grad, args.inner)
        row = claim(counter)


@compiled
def _activate(args: TrainStepArgs, gate: int, target: int) -> None:
    """Of one row, whose up projection is behind its gate."""
    up = gate + args.inner * FLOAT_BYTES
    if args.activation == Activation.GELU_TANH:
        gelu_mul(gate, up, target, args.inner)
    else:
        silu_mul(gate, up, target, args.inner)


@compiled
def _add_row(source: int, target: int, size: int) -> None:
    """target += source."""
    numbers, sums = floats(source, size), floats(target, size)
    for i in range(size):
        sums[i] += numbers[i]
