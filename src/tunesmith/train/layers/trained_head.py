"""Log-probabilities with a trained output matrix (frozen: `core.losses`)."""

from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from tunesmith.train.layers.wide_products import wide_product

CHUNK_LOGITS = 1 << 24  # elements of the logits that exist at once: 64 MB in fp32
GPU_CHUNK_LOGITS = 1 << 27  # see `core.losses`


class TrainedHead(torch.autograd.Function):
    """log p(target | hidden) with a trained output matrix.

    A slice of the logits exists at a time; the backward pass computes them again.

    d log p_i / d W = (onehot(target_i) - softmax(W h_i)) h_i^T: the matrix's gradient needs that of log p_i beforehand,
    so that it cannot be made in the forward pass as it is for a frozen matrix.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden_LD: Tensor, weight_VD: Tensor, targets_L: Tensor, cap: float
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        logprobs = torch.empty_like(hidden_LD[:, 0], dtype=_wide(hidden_LD))
        correct = torch.empty_like(targets_L, dtype=torch.bool)
        for here in _slices(hidden_LD, weight_VD):
            logits = _logits(hidden_LD[here], weight_VD, cap)
            chosen = logits.gather(1, targets_L[here].unsqueeze(1)).squeeze(1)
            correct[here] = logits.argmax(1) == targets_L[here]
            logprobs[here] = chosen - logits.logsumexp(1)
        ctx.save_for_backward(hidden_LD, weight_VD, targets_L)
        ctx.cap = cap  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(correct)
        return logprobs, correct

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        hidden_LD, weight_VD, targets_L = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        cap = cast(float, ctx.cap)  # type: ignore[attr-defined]
        grad_hidden, grad_weight = torch.empty_like(hidden_LD), torch.zeros_like(weight_VD)
        for here in _slices(hidden_LD, weight_VD):
            logits = _logits(hidden_LD[here], weight_VD, cap)
            upstream = grads[0][here].unsqueeze(1)
            grad_logits = (
                torch.softmax(logits, 1).mul_(-upstream).scatter_add_(1, targets_L[here].unsqueeze(1), upstream)
            )
            if cap:
                grad_logits.mul_(1 - (logits / cap).square())
            grad_logits = grad_logits.to(hidden_LD.dtype)
            grad_hidden[here] = torch.mm(grad_logits, weight_VD)
            grad_weight.addmm_(grad_logits.t(), hidden_LD[here])
        return grad_hidden, grad_weight, None, None


def trained_token_logprobs(
    hidden_LD: Tensor, weight_VD: Tensor, targets_L: Tensor, cap: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target [L], and whether it is the likeliest token [L].

    `cap`: soft cap of the logits, 0 = none.
    """
    return cast(tuple[Tensor, Tensor], TrainedHead.apply(hidden_LD, weight_VD, targets_L, cap))  # type: ignore[no-untyped-call]


def _slices(hidden_LD: Tensor, weight_VD: Tensor) -> list[slice]:
    most = CHUNK_LOGITS if hidden_LD.device.type == "cpu" else GPU_CHUNK_LOGITS
    step = max(1, most // weight_VD.shape[0])
    return [slice(start, start + step) for start in range(0, hidden_LD.shape[0], step)]


def _wide(hidden_LD: Tensor) -> torch.dtype:
    """What the softmax is computed in: float32 for 16 bits."""
    return torch.promote_types(hidden_LD.dtype, torch.float32)


def _logits(hidden_LD: Tensor, weight_VD: Tensor, cap: float) -> Tensor:
    logits = wide_product(hidden_LD, weight_VD)
    return logits if not cap else torch.tanh(logits / cap).mul_(cap)
