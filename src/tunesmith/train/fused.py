"""The parts of a transformer layer that autograd would cut into many passes over memory, each as one node.

Every function has its backward pass written out, with the same formula as the modules it stands for; `tests/train/
test_fused.py` compares them in float64. `accelerate.py` decides where they are used.
"""

from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

WIDE = 1024  # 576 x 16 takes 255 us the straight way at 800 tokens; 1536 x 16 takes 1030 us, turned 626 us


class SharedInput(torch.autograd.Function):
    """y_i = x W_i^T + bias_i + scale (x A_i^T) B_i^T for layers that read the same x: one pass makes all x A_i^T.

    The frozen W_i get no gradient. `stacked` holds all A_i, one under the other; `layers` is W, bias, A, B of each.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, scale: float, stacked: Tensor, *layers: Tensor) -> tuple[Tensor, ...]:
        flat = x.reshape(-1, x.shape[-1])
        low = torch.mm(flat, stacked.t()).mul_(scale)
        outputs, first = [], 0
        for weight, bias, a, b in _by_four(layers):
            y = torch.mm(flat, weight.t()) if bias is None else torch.addmm(bias, flat, weight.t())
            outputs.append(y.addmm_(low[:, first : first + len(a)], b.t()).view(*x.shape[:-1], -1))
            first += len(a)
        frozen = [tensor for weight, _, a, b in _by_four(layers) for tensor in (weight, a, b)]
        ctx.save_for_backward(flat, low, stacked, *frozen)
        ctx.scale, ctx.shape = scale, x.shape  # type: ignore[attr-defined]
        return tuple(outputs)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, stacked, *frozen = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        grad_low = torch.empty_like(low)
        grad_x: Tensor | None = None
        first, parts = 0, []
        for index, grad_y in enumerate(grads):
            weight, a, b = frozen[3 * index : 3 * index + 3]
            rows = slice(first, first + len(a))
            grad = grad_y.reshape(-1, grad_y.shape[-1])
            grad_low[:, rows] = torch.mm(grad, b)
            parts.append((rows, _outer(grad, low[:, rows])))
            if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
                grad_x = torch.mm(grad, weight) if grad_x is None else grad_x.addmm_(grad, weight)
            first += len(a)
        grad_low.mul_(cast(float, ctx.scale))  # type: ignore[attr-defined]
        grad_a = torch.mm(grad_low.t(), flat)
        if grad_x is not None:
            grad_x = grad_x.addmm_(grad_low, stacked).view(ctx.shape)  # type: ignore[attr-defined]
        of_layers = [grad for rows, grad_b in parts for grad in (None, None, grad_a[rows], grad_b)]
        return grad_x, None, None, *of_layers


def _outer(grad: Tensor, low: Tensor) -> Tensor:
    """grad^T low; for a wide layer as the transpose of low^T grad, which the matrix library does twice as fast."""
    return torch.mm(low.t(), grad).t() if grad.shape[1] > WIDE else torch.mm(grad.t(), low)


def _by_four(layers: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor | None, Tensor, Tensor]]:
    return [(layers[i], layers[i + 1], layers[i + 2], layers[i + 3]) for i in range(0, len(layers), 4)]


class SwiGlu(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = cast(tuple[Tensor, Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        grad_up = torch.nn.functional.silu(gate).mul_(grads[0])
        return cast(Tensor, torch.ops.aten.silu_backward(grads[0] * up, gate)), grad_up


class RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight, for a frozen weight, over the last dimension."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y: Tensor = x * inverse
        return y.mul_(weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = cast(tuple[Tensor, Tensor, Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        along = torch.matmul(grads[0] * x, weight).unsqueeze(-1).mul_(inverse.pow(3)).div_(-x.shape[-1])
        grad = grads[0] * weight
        return grad.mul_(inverse).addcmul_(x, along), None, None


class Rotary(torch.autograd.Function):
    """Rotary position embedding of queries or keys, whose halves are rotated against each other.

    x [1, H, T, D]; cos and sin [1, 1, T, D], each half of D holding the same values. The result keeps x's strides.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = cast(tuple[Tensor, Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        return _rotate(grads[0], cos, sin, -1.0), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    half = x.shape[-1] // 2
    result = x * cos
    result[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-direction)
    result[..., half:].addcmul_(x[..., :half], sin[..., half:], value=direction)
    return result


def apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """As transformers' apply_rotary_pos_emb."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return (
        cast(Tensor, Rotary.apply(q, cos, sin)),  # type: ignore[no-untyped-call]
        cast(Tensor, Rotary.apply(k, cos, sin)),  # type: ignore[no-untyped-call]
    )
