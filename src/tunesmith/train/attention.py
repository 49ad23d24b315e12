"""Attention over a token tree: a token sees itself, its node's earlier tokens and its ancestors; never a neighbour.

With nodes laid out depth first (`packing.py`) this is a handful of dense blocks without a mask: each node against
itself (causal), and all descendants of a node, which are contiguous, against the node (full). The blocks of one query
are merged by their log-sum-exp, as in ring attention (Liu et al., 2023, arXiv:2310.01889); the backward pass of each
block with the merged output and log-sum-exp is then exact. Plugs into transformers' attention interface, so no model
is forked.

Not covered here: sliding windows shorter than a row, score soft-capping, attention sinks, dropout on the scores.
`UnsupportedAttention` is raised for these and the trainer takes the padded path.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.train.packing import Packed

NAME = "tunesmith_tree"
CHUNK = 256  # a causal block this long wastes half of itself: longer nodes are cut and become a chain

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class UnsupportedAttention(Exception):
    """The model asks for a kind of attention that the tree does not compute."""


@dataclass(frozen=True, slots=True)
class Block:
    """Queries [query, query_end) against keys [key, key_end)."""

    query: int
    query_end: int
    key: int
    key_end: int
    causal: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """The blocks of one packed step. The causal ones come first and cover every query once."""

    blocks: list[Block]
    length: int
    deepest: int  # longest row of the run, tokens: what a sliding window has to hold

    @classmethod
    def of(cls, packed: Packed, longest: int = 0, chunk: int = CHUNK) -> "Tree":
        causal, full = [], []
        for node in packed.nodes:
            for start in range(node.start, node.stop, chunk):
                stop = min(start + chunk, node.stop)
                causal.append(Block(start, stop, start, stop, causal=True))
                if node.end > stop:
                    full.append(Block(stop, node.end, start, stop, causal=False))
        return cls(causal + full, packed.length, max(longest, max(packed.positions, default=-1) + 1))


class TreeAttention(torch.autograd.Function):
    """softmax(q k^T * scale) v over the tree. Shapes: q [1, H, T, D], k and v [1, K, T, D]; result [1, T, H, D]."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, q: Tensor, k: Tensor, v: Tensor, tree: Tree, scale: float
    ) -> Tensor:
        queries, keys, values = _grouped(q, k, v)
        groups, heads, length, size = queries.shape
        out_THD = torch.empty(length, groups * heads, size, dtype=q.dtype)
        out = out_THD.view(length, groups, heads, size).permute(1, 2, 0, 3)
        lse = torch.empty(groups, heads, length, dtype=q.dtype)
        for block in tree.blocks:
            rows, columns = slice(block.query, block.query_end), slice(block.key, block.key_end)
            part, part_lse = _flash(
                queries[:, :, rows], keys[:, :, columns], values[:, :, columns], 0.0, block.causal, scale=scale
            )
            if block.causal:
                out[:, :, rows] = part
                lse[:, :, rows] = part_lse
            else:
                _merge(out[:, :, rows], lse[:, :, rows], part, part_lse)
        ctx.save_for_backward(q, k, v, out_THD, lse)
        ctx.tree, ctx.scale = tree, scale  # type: ignore[attr-defined]
        return out_THD.unsqueeze(0)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out_THD, lse = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        tree, scale = cast(Tree, ctx.tree), cast(float, ctx.scale)  # type: ignore[attr-defined]
        queries, keys, values = _grouped(q, k, v)
        groups, heads, length, size = queries.shape
        by_head = (length, groups, heads, size)
        out = out_THD.view(by_head).permute(1, 2, 0, 3)
        grad = grads[0].reshape(by_head).permute(1, 2, 0, 3)
        # Memory is laid out as the projections have theirs: [T, heads, D].
        grad_q = torch.empty(by_head, dtype=q.dtype).permute(1, 2, 0, 3)
        grad_k = torch.empty(length, groups, size, dtype=q.dtype).permute(1, 0, 2)
        grad_v = torch.empty(length, groups, size, dtype=q.dtype).permute(1, 0, 2)
        for block in tree.blocks:
            rows, columns = slice(block.query, block.query_end), slice(block.key, block.key_end)
            part_q, part_k, part_v = _flash_backward(
                grad[:, :, rows], queries[:, :, rows], keys[:, :, columns], values[:, :, columns],
                out[:, :, rows], lse[:, :, rows], 0.0, block.causal, scale=scale,
            )  # fmt: skip
            if block.causal:  # these come first and cover every token once
                grad_q[:, :, rows] = part_q
                torch.sum(part_k, 1, out=grad_k[:, columns])
                torch.sum(part_v, 1, out=grad_v[:, columns])
            else:
                grad_q[:, :, rows] += part_q
                grad_k[:, columns] += part_k.sum(1)
                grad_v[:, columns] += part_v.sum(1)
        return grad_q.reshape(1, groups * heads, length, size), grad_k.unsqueeze(0), grad_v.unsqueeze(0), None, None


def _grouped(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[1, H, T, D] -> [K, H/K, T, D]: the heads that share keys share them without a copy (stride 0)."""
    heads, groups = q.shape[1], k.shape[1]
    shape = (groups, heads // groups, *q.shape[2:])
    return q[0].view(shape), k[0].unsqueeze(1).expand(shape), v[0].unsqueeze(1).expand(shape)


def _merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Adds a block's result to that of the keys seen before, in place."""
    both = torch.logaddexp(lse, part_lse)
    out.mul_(torch.exp(lse - both).unsqueeze(-1)).add_(part * torch.exp(part_lse - both).unsqueeze(-1))
    lse.copy_(both)


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    tree: Tree | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """transformers' attention interface. `tree` arrives as a keyword of the model's forward."""
    if tree is None:
        raise UnsupportedAttention(f"{type(module).__name__} does not pass keywords on to its attention")
    _refuse_unsupported(module, dropout, tree, options)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type != "cpu":
        return _masked(query, key, value, tree, scale), None
    return cast(Tensor, TreeAttention.apply(query, key, value, tree, scale)), None  # type: ignore[no-untyped-call]


def _refuse_unsupported(module: nn.Module, dropout: float, tree: Tree, options: dict[str, object]) -> None:
    window = options.get("sliding_window")
    if isinstance(window, int) and window < tree.deepest:
        raise UnsupportedAttention(f"a sliding window of {window} tokens is shorter than a row of {tree.deepest}")
    if options.get("softcap") is not None:
        raise UnsupportedAttention("attention scores are soft-capped")
    if options.get("s_aux") is not None:
        raise UnsupportedAttention("attention has sinks")
    if dropout:
        raise UnsupportedAttention("attention scores have dropout")
    if getattr(module, "is_causal", True) is False:
        raise UnsupportedAttention("attention is not causal")


def _masked(query: Tensor, key: Tensor, value: Tensor, tree: Tree, scale: float) -> Tensor:
    """The same through SDPA with a dense mask: for accelerators. Its speed has not been measured."""
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=dense_mask(tree).to(query.device), scale=scale, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous()


def dense_mask(tree: Tree) -> Tensor:
    """[T, T] booleans: may query (row) see key (column)?"""
    mask = torch.zeros(tree.length, tree.length, dtype=torch.bool)
    for block in tree.blocks:
        size = (block.query_end - block.query, block.key_end - block.key)
        seen = torch.ones(size, dtype=torch.bool)
        mask[block.query : block.query_end, block.key : block.key_end] |= seen.tril() if block.causal else seen
    return mask


def register() -> None:
    """Makes the tree known to transformers under NAME. No mask function is registered: none is then made."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tree_attention)
