"""Attention over a token tree: a token sees itself, its node's earlier tokens and its ancestors; never a neighbour.

`tree.py` says which blocks of queries and keys that makes. The blocks of one query are merged by their log-sum-exp, as
in ring attention (Liu et al., 2023, arXiv:2310.01889); the backward pass of each block with the merged output and
log-sum-exp is then exact. Plugs into transformers' attention interface, so no model is forked.

Most blocks are the fused kernel's. Those cut by a sliding window, and all where scores are soft-capped, are written out
(`dense_blocks.py`). A sink is one more key of every query, without a value: it is merged last.

Not covered here: dropout on the scores, attention that is not causal, layers of other kinds than full attention and
sliding windows. `UnsupportedAttention` is raised for these and the trainer takes the padded path.
"""

from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.train.core.token_tree import Block, Tree
from tunesmith.train.layers.dense_blocks import Rule, dense_attention, dense_block, dense_block_backward

NAME = "tunesmith_tree"
FULL, SLIDING = "full_attention", "sliding_attention"

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class UnsupportedAttention(Exception):
    """The model asks for a kind of attention that the tree does not compute."""


class TreeAttention(torch.autograd.Function):
    """softmax(q k^T * scale) v over the tree. Shapes: q [1, H, T, D], k and v [1, K, T, D]; result [1, T, H, D].

    `sinks` [H]: a score for each head that takes part in the softmax and has no value.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        tree: Tree,
        rule: Rule,
        sinks: Tensor | None,
    ) -> Tensor:
        queries, keys, values = _grouped(q, k, v)
        groups, heads, length, size = queries.shape
        out_THD = torch.empty(length, groups * heads, size, dtype=q.dtype)
        out = out_THD.view(length, groups, heads, size).permute(1, 2, 0, 3)
        lse = torch.empty(groups, heads, length, dtype=q.dtype)
        for block in tree.within(rule.window):
            rows, columns = block.rows, block.columns
            part, part_lse = _block(queries[:, :, rows], keys[:, :, columns], values[:, :, columns], tree, block, rule)
            if block.causal:
                out[:, :, rows] = part
                lse[:, :, rows] = part_lse
            else:
                _merge(out[:, :, rows], lse[:, :, rows], part, part_lse)
        if sinks is not None:
            _merge(out, lse, None, sinks.detach().to(lse.dtype).view(groups, heads, 1))
        ctx.save_for_backward(q, k, v, out_THD, lse, sinks)  # type: ignore[arg-type]
        ctx.tree, ctx.rule = tree, rule  # type: ignore[attr-defined]
        return out_THD.unsqueeze(0)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out_THD, lse, sinks = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        tree, rule = cast(Tree, ctx.tree), cast(Rule, ctx.rule)  # type: ignore[attr-defined]
        queries, keys, values = _grouped(q, k, v)
        groups, heads, length, size = queries.shape
        by_head = (length, groups, heads, size)
        out = out_THD.view(by_head).permute(1, 2, 0, 3)
        grad = grads[0].reshape(by_head).permute(1, 2, 0, 3)
        # Memory is laid out as the projections have theirs: [T, heads, D].
        grad_q = torch.empty(by_head, dtype=q.dtype).permute(1, 2, 0, 3)
        grad_k = torch.empty(length, groups, size, dtype=q.dtype).permute(1, 0, 2)
        grad_v = torch.empty(length, groups, size, dtype=q.dtype).permute(1, 0, 2)
        for block in tree.within(rule.window):
            rows, columns = block.rows, block.columns
            part_q, part_k, part_v = _block_backward(
                grad[:, :, rows], queries[:, :, rows], keys[:, :, columns], values[:, :, columns],
                out[:, :, rows], lse[:, :, rows], tree, block, rule,
            )  # fmt: skip
            if block.causal:  # these come first and cover every token once
                grad_q[:, :, rows] = part_q
                torch.sum(part_k, 1, out=grad_k[:, columns])
                torch.sum(part_v, 1, out=grad_v[:, columns])
            else:
                grad_q[:, :, rows] += part_q
                grad_k[:, columns] += part_k.sum(1)
                grad_v[:, columns] += part_v.sum(1)
        wanted = sinks is not None and sinks.requires_grad
        return (
            grad_q.reshape(1, groups * heads, length, size), grad_k.unsqueeze(0), grad_v.unsqueeze(0), None, None,
            _sinks_gradient(grad, out, lse, sinks) if wanted else None,
        )  # fmt: skip


def _grouped(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[1, H, T, D] -> [K, H/K, T, D]: the heads that share keys share them without a copy (stride 0)."""
    heads, groups = q.shape[1], k.shape[1]
    shape = (groups, heads // groups, *q.shape[2:])
    return q[0].view(shape), k[0].unsqueeze(1).expand(shape), v[0].unsqueeze(1).expand(shape)


def _block(q: Tensor, k: Tensor, v: Tensor, tree: Tree, block: Block, rule: Rule) -> tuple[Tensor, Tensor]:
    if block.cut or rule.softcap is not None:
        return dense_block(q, k[:, 0], v[:, 0], tree.seen(block, rule.window), rule)
    part, lse = _flash(q, k, v, 0.0, block.causal, scale=rule.scale)
    return part, lse


def _block_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, tree: Tree, block: Block, rule: Rule
) -> tuple[Tensor, Tensor, Tensor]:
    """Of q for each head; of k and v for each head, or for the heads that share them together (size 1)."""
    if block.cut or rule.softcap is not None:
        return dense_block_backward(grad, q, k[:, 0], v[:, 0], out, lse, tree.seen(block, rule.window), rule)
    grad_q, grad_k, grad_v = _flash_backward(grad, q, k, v, out, lse, 0.0, block.causal, scale=rule.scale)
    return grad_q, grad_k, grad_v


def _merge(out: Tensor, lse: Tensor, part: Tensor | None, part_lse: Tensor) -> None:
    """Adds a block's result to that of the keys seen before, in place. `part` None: its values are zero."""
    both = torch.logaddexp(lse, part_lse)
    out.mul_(torch.exp(lse - both).unsqueeze(-1))
    if part is not None:
        out.add_(part * torch.exp(part_lse - both).unsqueeze(-1))
    lse.copy_(both)


def _sinks_gradient(grad: Tensor, out: Tensor, lse: Tensor, sinks: Tensor) -> Tensor:
    """[H]: what a sink takes from the softmax of each query it takes from that query's result."""
    share = torch.exp(sinks.to(lse.dtype).view(*lse.shape[:2], 1) - lse)
    return -(share * (grad * out).sum(-1)).sum(-1).view_as(sinks).to(sinks.dtype)


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    tree: Tree | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """transformers' attention interface. `tree` arrives as a keyword of the model's forward; `s_aux` are the sinks."""
    if tree is None:
        raise UnsupportedAttention(f"{type(module).__name__} does not pass keywords on to its attention")
    _refuse_unsupported(module, dropout, sliding_window)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rule = Rule(scale, sliding_window, softcap)
    if query.device.type != "cpu":
        return masked_attention(query, key, value, tree, rule, s_aux), None
    return cast(Tensor, TreeAttention.apply(query, key, value, tree, rule, s_aux)), None  # type: ignore[no-untyped-call]


def _refuse_unsupported(module: nn.Module, dropout: float, window: int | None) -> None:
    if dropout:
        raise UnsupportedAttention("attention scores have dropout")
    if getattr(module, "is_causal", True) is False:
        raise UnsupportedAttention("attention is not causal")
    kind = _kind(module)
    if kind not in (None, FULL, SLIDING):
        raise UnsupportedAttention(f"a layer is of the kind {kind}")
    if kind == SLIDING and window is None:
        raise UnsupportedAttention(f"{type(module).__name__} does not pass its sliding window on")


def _kind(module: nn.Module) -> str | None:
    """As the family's config calls the layer: not every family's attention says all that its mask does."""
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    index = getattr(module, "layer_idx", None)
    return str(kinds[index]) if kinds and isinstance(index, int) and index < len(kinds) else None


def masked_attention(query: Tensor, key: Tensor, value: Tensor, tree: Tree, rule: Rule, sinks: Tensor | None) -> Tensor:
    """The same with a dense mask, through SDPA where it can: for accelerators. Its speed has not been measured."""
    seen = tree.mask(rule.window).to(query.device)
    if rule.softcap is not None or sinks is not None:
        return dense_attention(query, key, value, seen, rule, sinks).transpose(1, 2).contiguous()
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=rule.scale, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous()


def register() -> None:
    """Makes the tree known to transformers under NAME. No mask function is registered: none is then made."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tree_attention)
