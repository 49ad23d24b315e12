"""Attention over a token tree through FlashAttention's kernel, on GPUs.

The kernel for sequences of different lengths takes any number of pairs of queries and keys in one call. One call
computes each node against itself (causal). One more for each depth of the tree computes all descendants of the nodes at
this depth against those nodes: they are disjoint, and lie side by side. The parts of one query are merged by their
log-sum-exp, and the backward pass of each part with the merged result is exact, as in `layers.attention`. No mask is
made and nothing is compiled.

Not covered: windows that cut a row, soft-capped scores, sinks, and formats other than 16 bits. These take the dense
mask. The kernel has not been run by us: `paths.choose_attention` compares it with the mask before a run takes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from tunesmith.train.core.tree_pairs import Pairs

LARGEST_HEAD, HEAD_STEP = 256, 8  # sizes of a head that the kernel computes
Inputs = tuple[Tensor, Tensor, Tensor]


class Kernel(Protocol):
    """Attention of pairs: q [Q, H, D], k and v [N, K, D]."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, pairs: Pairs, scale: float) -> tuple[Tensor, Tensor]:
        """The result [Q, H, D] and its log-sum-exp [H, Q]."""
        ...

    def backward(
        self, grad: Tensor, qkv: Inputs, out_lse: tuple[Tensor, Tensor], pairs: Pairs, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v.

        `grad` is that of the merged result, which is given with its log-sum-exp.
        """
        ...


class FlashKernel:
    """PyTorch's own build of FlashAttention."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, pairs: Pairs, scale: float) -> tuple[Tensor, Tensor]:
        """See `Kernel`."""
        ends, longest = (pairs.query_ends, pairs.key_ends), (pairs.longest_query, pairs.longest_key)
        found = torch.ops.aten._flash_attention_forward(q, k, v, *ends, *longest, 0.0, pairs.causal, False, scale=scale)
        return found[0], found[1]

    def backward(
        self, grad: Tensor, qkv: Inputs, out_lse: tuple[Tensor, Tensor], pairs: Pairs, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Kernel`."""
        ends, longest = (pairs.query_ends, pairs.key_ends), (pairs.longest_query, pairs.longest_key)
        state, unused = torch.zeros(2, dtype=torch.uint64, device=grad.device), torch.empty(0, device=grad.device)
        found = torch.ops.aten._flash_attention_backward(
            grad, *qkv, *out_lse, *ends, *longest, 0.0, pairs.causal, state, unused, scale=scale
        )
        return found[0], found[1], found[2]


FLASH = FlashKernel()


@dataclass(frozen=True, slots=True)
class Calls:
    """What is asked of which kernel for one layer."""

    pairs: Sequence[Pairs]  # the nodes themselves first
    scale: float
    kernel: Kernel


class VarlenAttention(torch.autograd.Function):
    """Computes softmax(q k^T * scale) v over the tree.

    Shapes: q [T, H, D], k and v [T, K, D]; result [T, H, D].
    """

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, calls: Calls) -> Tensor:
        """See the class."""
        kernel, scale = calls.kernel, calls.scale
        out, lse = kernel.forward(q, k, v, calls.pairs[0], scale)
        merged, lse_TH = out.to(_wide(q)) if len(calls.pairs) > 1 else out, lse.t().contiguous()
        for pairs in calls.pairs[1:]:
            part, part_lse = kernel.forward(pairs.of_queries(q), pairs.of_keys(k), pairs.of_keys(v), pairs, scale)
            _merge(merged, lse_TH, part, part_lse.t(), pairs)
        out = merged.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse_TH)
        ctx.calls = calls  # type: ignore[attr-defined]
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v."""
        q, k, v, out, lse_TH = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        calls, grad = cast(Calls, ctx.calls), grads[0].contiguous()  # type: ignore[attr-defined]
        kernel, scale = calls.kernel, calls.scale
        found = kernel.backward(grad, (q, k, v), (out, lse_TH.t().contiguous()), calls.pairs[0], scale)
        if len(calls.pairs) == 1:
            return (*found, None)
        grad_q, grad_k, grad_v = (one.to(_wide(q)) for one in found)  # several are added
        for pairs in calls.pairs[1:]:
            part_q, part_k, part_v = kernel.backward(
                pairs.of_queries(grad),
                (pairs.of_queries(q), pairs.of_keys(k), pairs.of_keys(v)),
                (pairs.of_queries(out), pairs.of_queries(lse_TH).t().contiguous()),
                pairs,
                scale,
            )
            grad_q.index_add_(0, cast(Tensor, pairs.queries), part_q.to(grad_q.dtype))
            grad_k.index_add_(0, cast(Tensor, pairs.keys), part_k.to(grad_k.dtype))
            grad_v.index_add_(0, cast(Tensor, pairs.keys), part_v.to(grad_v.dtype))
        return grad_q.to(q.dtype), grad_k.to(q.dtype), grad_v.to(q.dtype), None


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _merge(out: Tensor, lse_TH: Tensor, part: Tensor, part_lse: Tensor, pairs: Pairs) -> None:
    """Adds a part to the result of its queries, in place; each query is in it once."""
    places = cast(Tensor, pairs.queries)
    before = lse_TH.index_select(0, places)
    both = torch.logaddexp(before, part_lse)
    mine = out.index_select(0, places) * torch.exp(before - both).unsqueeze(-1)
    out.index_copy_(0, places, (mine + part * torch.exp(part_lse - both).unsqueeze(-1)).to(out.dtype))
    lse_TH.index_copy_(0, places, both)


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, pairs: Sequence[Pairs], scale: float, kernel: Kernel = FLASH
) -> Tensor:
    """q [1, H, T, D], k and v [1, K, T, D] -> [1, T, H, D]."""
    q, k, v = (one[0].transpose(0, 1) for one in (query, key, value))
    out = VarlenAttention.apply(q, k, v, Calls(pairs, scale, kernel))  # type: ignore[no-untyped-call]
    return cast(Tensor, out).unsqueeze(0)


def computes(query: Tensor, value: Tensor) -> bool:
    """Whether the kernel takes these shapes and this format."""
    size = query.shape[-1]
    narrow = query.dtype in (torch.bfloat16, torch.float16)
    return narrow and value.shape[-1] == size <= LARGEST_HEAD and size % HEAD_STEP == 0
