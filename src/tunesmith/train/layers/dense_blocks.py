"""Blocks of attention in plain operations, for windows and soft-capped scores.

The fused kernel does not compute these. Scores are held as a matrix, at most `token_tree.CHUNK` keys wide. As with the
fused kernel, a block's result comes with its log-sum-exp, and the gradient takes those of the complete row:
P = exp(S - lse), dS = P (dP - rowsum(dO O)) (Dao et al., 2022, arXiv:2205.14135, section B). Of a base in 16 bits, the
scores, their softmax and the difference in dS are in float32, as in the fused kernel; the other products are not.
Shapes: queries [K, H/K, Q, D], keys and values [K, N, D].
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rule:
    """How a layer's scores are made of q and k."""

    scale: float
    window: int | None = None  # a query sees keys less than this many positions before it
    softcap: float | None = None  # scores become cap * tanh(score / cap)


@dataclass(frozen=True, slots=True)
class Attended:
    """Queries, the result of their attention over all keys, and its gradient.

    `queries`, `out` and `grad` are [K, H/K, Q, D], `lse` is [K, H/K, Q].
    """

    queries: Tensor
    out: Tensor
    lse: Tensor
    grad: Tensor

    def at(self, rows: slice) -> "Attended":
        """The same for some of the queries, as views."""
        return Attended(self.queries[:, :, rows], self.out[:, :, rows], self.lse[:, :, rows], self.grad[:, :, rows])


def dense_block(
    queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, rule: Rule
) -> tuple[Tensor, Tensor]:
    """The result of a block [K, H/K, Q, D] and its log-sum-exp [K, H/K, Q].

    `seen` None: every query sees every key.
    """
    scores, _ = _scores(queries, keys, seen, rule)
    lse = torch.logsumexp(scores, -1)
    return _product(torch.exp(scores - lse.unsqueeze(-1)).to(values.dtype), values), lse


def dense_block_backward(
    attended: Attended, keys: Tensor, values: Tensor, seen: Tensor | None, rule: Rule
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a block's queries [K, H/K, Q, D], keys and values [K, 1, N, D]."""
    scores, cap_grad = _scores(attended.queries, keys, seen, rule)
    wide, narrow = scores.dtype, keys.dtype
    weights = torch.exp(scores - attended.lse.unsqueeze(-1)).to(wide)
    grad_weights = _product(attended.grad, values.mT).to(wide)
    from_sum = (attended.grad.to(wide) * attended.out.to(wide)).sum(-1, keepdim=True)
    grad_scores = weights * (grad_weights - from_sum) * rule.scale
    if cap_grad is not None:
        grad_scores *= cap_grad
    weights, grad_scores = weights.to(narrow), grad_scores.to(narrow)
    return (
        _product(grad_scores, keys),
        (_rows(grad_scores).mT @ _rows(attended.queries)).unsqueeze(1),
        (_rows(weights).mT @ _rows(attended.grad)).unsqueeze(1),
    )


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, rule: Rule, sinks: Tensor | None
) -> Tensor:
    """Attention of a complete step under autograd; holds H * T * T scores.

    q [1, H, T, D], k and v [1, K, T, D] -> [1, H, T, D].
    """
    groups = key.shape[1]
    queries = query[0].reshape(groups, -1, *query.shape[2:])
    scores, _ = _scores(queries, key[0], seen, rule)
    if sinks is None:
        return _product(torch.softmax(scores, -1).to(value.dtype), value[0]).flatten(0, 1).unsqueeze(0)
    sink = sinks.to(scores.dtype).view(groups, -1, 1, 1).expand(*scores.shape[:-1], 1)
    weights = torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]
    return _product(weights.to(value.dtype), value[0]).flatten(0, 1).unsqueeze(0)


def _scores(queries: Tensor, keys: Tensor, seen: Tensor | None, rule: Rule) -> tuple[Tensor, Tensor | None]:
    """[K, H/K, Q, N] in at least float32, and the derivative of the soft cap."""
    wide = torch.promote_types(queries.dtype, torch.float32)
    scores, cap_grad = _product(queries.to(wide), keys.mT.to(wide)) * rule.scale, None
    if rule.softcap is not None:
        squashed = torch.tanh(scores / rule.softcap)
        scores, cap_grad = squashed * rule.softcap, 1 - squashed * squashed
    return (scores if seen is None else scores.masked_fill(~seen, -torch.inf)), cap_grad


def _product(by_head: Tensor, shared: Tensor) -> Tensor:
    """[K, H/K, Q, A] @ [K, A, B] -> [K, H/K, Q, B]: one product for the heads that share keys."""
    return (_rows(by_head) @ shared).view(*by_head.shape[:-1], shared.shape[-1])


def _rows(by_head: Tensor) -> Tensor:
    return by_head.flatten(1, 2)
