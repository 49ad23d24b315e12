"""Losses as pure functions of tensors.

Logits exist only for learned tokens, and only a slice of them at a time.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from tunesmith.train.layers.frozen_weights import FrozenHead

CHUNK_LOGITS = 1 << 22  # elements of the logits that exist at once: 16 MB in fp32; more makes no product faster
CHUNK_TOKENS = 96  # but with fewer tokens the product is slower: of 152,000 outputs 27 take a quarter longer each
GPU_CHUNK_LOGITS = 1 << 27  # the matrix, up to 1 GB, is read once for each chunk: a thousand tokens pay for that


class TokenLogprobs(torch.autograd.Function):
    """log p(target | hidden) with a frozen output matrix.

    The forward pass also computes the gradient with respect to `hidden`, while it has a slice's logits:
    d log p_i / d h_i = W[target_i] - softmax(W h_i) W. What is kept is one vector
    a token instead of its logits.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, hidden_LD: Tensor, head: FrozenHead, targets_L: Tensor, cap: float
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        count, wide = hidden_LD.shape[0], sum_dtype(hidden_LD.dtype)
        logprobs = hidden_LD.new_empty(count, dtype=wide)
        correct = hidden_LD.new_empty(count, dtype=torch.bool)
        wanted = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        grad_hidden = torch.empty_like(hidden_LD) if wanted else None
        for here in slices(count, _tokens_at_once(hidden_LD.device, head.outputs)):
            targets = targets_L[here].unsqueeze(1)
            logits, cap_grad = _capped(head.logits(hidden_LD[here]), cap, wanted)
            top, guess = logits.max(1, keepdim=True)
            chosen = logits.gather(1, targets)
            correct[here] = (guess == targets).squeeze(1)
            exponentials = logits.sub_(top).exp_()
            total = exponentials.sum(1, keepdim=True)
            logprobs[here] = (chosen - top - total.log()).squeeze(1)
            if grad_hidden is not None:
                grad_logits = exponentials.mul_(-1 / total)
                grad_logits.scatter_add_(1, targets, torch.ones_like(chosen))
                if cap_grad is not None:
                    grad_logits.mul_(cap_grad)
                grad_hidden[here] = head.grad_input(grad_logits.to(hidden_LD.dtype))
        if grad_hidden is not None:
            ctx.save_for_backward(grad_hidden)
        ctx.mark_non_differentiable(correct)
        return logprobs, correct

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        (grad_hidden,) = cast(tuple[Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        return (grad_hidden * grads[0].unsqueeze(1)).to(grad_hidden.dtype), None, None, None


def slices(count: int, typical: int) -> list[slice]:
    """`count` tokens in slices of about `typical` ones, as equal as they can be.

    A short last one would be slow.
    """
    pieces = max(1, round(count / typical))
    ends = [count * piece // pieces for piece in range(pieces + 1)]
    return [slice(start, end) for start, end in pairwise(ends) if start < end]


def _tokens_at_once(device: torch.device, outputs: int) -> int:
    if device.type != "cpu":
        return max(1, GPU_CHUNK_LOGITS // outputs)
    return max(CHUNK_TOKENS, CHUNK_LOGITS // outputs)


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums over a vocabulary or an answer are made in: float32 for 16 bits.

    In bfloat16 a log-probability of 12 is kept to 0.03, a logit of 20 to 0.06, and the sum of an answer's to whole
    numbers.
    """
    return torch.promote_types(dtype, torch.float32)


def token_logprobs(hidden_LD: Tensor, head: FrozenHead, targets_L: Tensor, cap: float = 0.0) -> tuple[Tensor, Tensor]:
    """Log-probability of each target [L], and whether it is the likeliest token [L].

    Log-probabilities are in float32 also where `hidden_LD` is in 16 bits. `cap`: soft cap of the logits, 0 = none.
    """
    return cast(tuple[Tensor, Tensor], TokenLogprobs.apply(hidden_LD, head, targets_L, cap))  # type: ignore[no-untyped-call]


def _capped(logits: Tensor, cap: float, want_grad: bool) -> tuple[Tensor, Tensor | None]:
    if not cap:
        return logits, None
    squashed = torch.tanh(logits / cap)
    return squashed * cap, 1 - squashed.square() if want_grad else None


def supervised_loss(logprobs_L: Tensor, weights_L: Tensor, total_weight: float) -> Tensor:
    """This part's share of the mean over all learned tokens of the batch.

    Their weights sum to `total_weight`.
    """
    return -(logprobs_L * weights_L).sum() / total_weight


def dpo_loss(
    chosen_N: Tensor, rejected_N: Tensor, reference_chosen_N: Tensor, reference_rejected_N: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """The loss -log sigmoid(beta * margin) and the reward margin of each pair.

    Source: Rafailov et al., 2023, arXiv:2305.18290. The arguments are log-probabilities of complete answers,
    summed over their tokens.
    """
    margin = beta * ((chosen_N - reference_chosen_N) - (rejected_N - reference_rejected_N))
    return -torch.nn.functional.logsigmoid(margin), margin
