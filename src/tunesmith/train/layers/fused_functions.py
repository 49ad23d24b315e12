"""Parts of a transformer layer as single nodes of autograd's graph.

Autograd would cut each of them into many passes over memory. Each has its backward pass written out, with the same
formula as the modules it replaces; `tests/train/layers/test_fused_functions.py` compares them in float64.
`paths.accelerate` decides where they are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from tunesmith.train.layers.frozen_weights import FrozenMatrix

WIDE = 1024  # 576 x 16 takes 255 us directly at 800 tokens; 1536 x 16 takes 1030 us, transposed 626 us


class SharedInput(torch.autograd.Function):
    """Computes y_i = x W_i^T + bias_i + scale (x A_i^T) B_i^T for one input x.

    One product makes all x A_i^T. `stacked` has all A_i, one below the other; `adapters` is A and B of each layer.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, scale: float, matrices: Sequence[FrozenMatrix], stacked: Tensor, *adapters: Tensor
    ) -> tuple[Tensor, ...]:
        """See the class."""
        flat = x.reshape(-1, x.shape[-1])
        lora_hidden = torch.mm(flat, stacked.t()).mul_(scale)
        outputs = []
        for matrix, rows, b in zip(matrices, _row_slices(adapters[0::2]), adapters[1::2], strict=True):
            y = matrix.product(flat).addmm_(lora_hidden[:, rows], b.t())
            outputs.append(y if x.dim() == 2 else y.view(*x.shape[:-1], -1))  # a view must not be changed in place
        ctx.save_for_backward(flat, lora_hidden, stacked, *adapters)
        ctx.scale, ctx.shape, ctx.matrices = scale, x.shape, matrices  # type: ignore[attr-defined]
        return tuple(outputs)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        flat, lora_hidden, stacked, *adapters = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        matrices = cast(Sequence[FrozenMatrix], ctx.matrices)  # type: ignore[attr-defined]
        wanted: bool = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        grad_lora_hidden = torch.empty_like(lora_hidden)
        grad_x: Tensor | None = None
        parts = []
        for matrix, rows, b, grad_y in zip(matrices, _row_slices(adapters[0::2]), adapters[1::2], grads, strict=True):
            grad = grad_y.reshape(-1, grad_y.shape[-1])
            grad_lora_hidden[:, rows] = torch.mm(grad, b)
            parts.append((rows, _outer(grad, lora_hidden[:, rows])))
            if wanted:
                part = matrix.grad_input(grad)
                grad_x = part if grad_x is None else grad_x.add_(part)
        grad_lora_hidden.mul_(cast(float, ctx.scale))  # type: ignore[attr-defined]
        grad_a = torch.mm(grad_lora_hidden.t(), flat)
        if grad_x is not None:
            grad_x = grad_x.addmm_(grad_lora_hidden, stacked).view(ctx.shape)  # type: ignore[attr-defined]
        of_adapters = [grad for rows, grad_b in parts for grad in (grad_a[rows], grad_b)]
        return grad_x, None, None, None, *of_adapters


def _row_slices(matrices: Sequence[Tensor]) -> list[slice]:
    """Where each of the matrices stands in the stack of all."""
    ends = [*accumulate(len(matrix) for matrix in matrices)]
    return [slice(end - len(matrix), end) for end, matrix in zip(ends, matrices, strict=True)]


def _outer(grad: Tensor, lora_hidden: Tensor) -> Tensor:
    """grad^T lora_hidden; for a wide layer as the transpose of its transpose, which is twice as fast."""
    return torch.mm(lora_hidden.t(), grad).t() if grad.shape[1] > WIDE else torch.mm(grad.t(), lora_hidden)


class SwiGlu(torch.autograd.Function):
    """The product silu(gate) * up."""

    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:
        """See the class."""
        ctx.save_for_backward(gate, up)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        gate, up = cast(tuple[Tensor, Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        grad_up = torch.nn.functional.silu(gate).mul_(grads[0])
        return cast(Tensor, torch.ops.aten.silu_backward(grads[0] * up, gate)), grad_up


@dataclass(frozen=True, slots=True)
class LoraBase:
    """The frozen part of a LoRA layer, and the scale of the update beside it."""

    matrix: FrozenMatrix
    scale: float


class GatedDown(torch.autograd.Function):
    """The end of a gated MLP: h W^T + bias + scale (h A^T) B^T, h = silu(gate) * up.

    The backward pass computes h again, since it needs silu(gate) anyway: a fifth less is kept of each token.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor, base: LoraBase, a: Tensor, b: Tensor) -> Tensor:
        """See the class."""
        hidden = torch.nn.functional.silu(gate).mul_(up).flatten(0, -2)
        lora_hidden = torch.mm(hidden, a.t()).mul_(base.scale)
        ctx.save_for_backward(gate, up, lora_hidden, a, b)
        ctx.base = base  # type: ignore[attr-defined]
        return base.matrix.product(hidden).addmm_(lora_hidden, b.t()).view(*gate.shape[:-1], -1)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        gate, up, lora_hidden, a, b = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        base = cast(LoraBase, ctx.base)  # type: ignore[attr-defined]
        grad = grads[0].flatten(0, -2)
        grad_lora_hidden = torch.mm(grad, b).mul_(base.scale)
        grad_hidden = base.matrix.grad_input(grad).addmm_(grad_lora_hidden, a).view(gate.shape)
        activated = torch.nn.functional.silu(gate)
        grad_a = torch.mm(grad_lora_hidden.t(), (activated * up).flatten(0, -2))
        grad_up = activated.mul_(grad_hidden)
        grad_gate = torch.ops.aten.silu_backward(grad_hidden.mul_(up), gate)
        return cast(Tensor, grad_gate), grad_up, None, grad_a, _outer(grad, lora_hidden)


class RmsNorm(torch.autograd.Function):
    """The norm x / rms(x) * weight, over the last dimension.

    Of 16-bit numbers too it is computed in float32, and rounded where transformers rounds: before the weight.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """See the class."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_wide(x)).square_()
        inverse = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y: Tensor = (x * inverse).to(x.dtype)
        return y.mul_(weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """See the class."""
        x, weight, inverse = cast(tuple[Tensor, Tensor, Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        wide, slope, factors = x.to(_wide(x)), grads[0].to(_wide(x)), weight.to(_wide(x))
        along = torch.matmul(slope * wide, factors).unsqueeze(-1).mul_(inverse.pow(3)).div_(-x.shape[-1])
        trained: bool = ctx.needs_input_grad[1]  # type: ignore[attr-defined]
        grad_weight = (slope * wide).mul_(inverse).flatten(0, -2).sum(0).to(weight.dtype) if trained else None
        grad = slope * factors
        return grad.mul_(inverse).addcmul_(wide, along).to(x.dtype), grad_weight, None


def _wide(x: Tensor) -> torch.dtype:
    """Of sums over numbers like x."""
    return torch.promote_types(x.dtype, torch.float32)


class Rotary(torch.autograd.Function):
    """Rotary position embedding of queries or keys: the halves of a head are rotated.

    x [1, H, T, D]; cos and sin [1, 1, T, D], each half of D holding the same values. The result keeps x's strides.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See the class."""
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        """See the class."""
        cos, sin = cast(tuple[Tensor, Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        return _rotate(grads[0], cos, sin, -1.0), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    half = x.shape[-1] // 2
    result = x * cos
    result[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-direction)
    result[..., half:].addcmul_(x[..., :half], sin[..., half:], value=direction)
    return result


def apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Does what transformers' apply_rotary_pos_emb does."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return (
        cast(Tensor, Rotary.apply(q, cos, sin)),  # type: ignore[no-untyped-call]
        cast(Tensor, Rotary.apply(k, cos, sin)),  # type: ignore[no-untyped-call]
    )
