"""Attention over a token tree, as one node of autograd's graph.

A token sees itself, its node's earlier tokens and its ancestors, never a neighbour; `core.token_tree` says which blocks
of queries and keys that makes. The blocks of one query are merged by their log-sum-exp, as in ring attention (Liu et
al., 2023, arXiv:2310.01889); the backward pass of each block with the merged output and log-sum-exp is then exact.
Plugs into transformers' attention interface, so no model is forked.

Most blocks are computed by the fused kernel. Those cut by a sliding window, and all where scores are soft-capped, are
computed in plain operations (`dense_blocks`). A sink is one more key of every query, without a value; it is
merged last.

Not covered here: dropout on the scores, attention that is not causal, layers of other kinds than full attention and
sliding windows. `UnsupportedAttention` is raised for these, and the trainer takes the padded path.
"""

from dataclasses import dataclass
from typing import TypedDict, Unpack, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from tunesmith.families.table import FULL_ATTENTION
from tunesmith.train.core.token_tree import Block, Tree
from tunesmith.train.layers.dense_blocks import Attended, Rule, dense_attention, dense_block, dense_block_backward
from tunesmith.train.layers.varlen_attention import computes, varlen_attention

NAME = "tunesmith_tree"
SLIDING_ATTENTION = "sliding_attention"

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class UnsupportedAttention(Exception):
    """The model asks for a kind of attention that the tree does not compute."""


@dataclass(frozen=True, slots=True)
class TreeRule:
    """One layer's attention over one packed step."""

    tree: Tree
    rule: Rule

    @property
    def blocks(self) -> list[Block]:
        """The causal ones come first and cover every token once."""
        return self.tree.within(self.rule.window)

    def is_dense(self, block: Block) -> bool:
        """Whether the fused kernel does not compute the block."""
        return block.cut or self.rule.softcap is not None

    def seen(self, block: Block) -> Tensor | None:
        """The mask [queries, keys], true where a query sees a key; None: all."""
        return self.tree.seen(block, self.rule.window)


class TreeAttention(torch.autograd.Function):
    """Computes softmax(q k^T * scale) v over the tree.

    Shapes: q [1, H, T, D], k and v [1, K, T, D]; result [1, T, H, D]. `sinks` [H]: one score a head that takes part in
    the softmax and has no value.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, layer: TreeRule) -> Tensor:
        """See the class."""
        queries, keys, values = _grouped(q, k, v)
        groups, heads, length, size = queries.shape
        out_THD = torch.empty(length, groups * heads, size, dtype=q.dtype)
        out = out_THD.view(length, groups, heads, size).permute(1, 2, 0, 3)
        lse = torch.empty(groups, heads, length, dtype=torch.promote_types(q.dtype, torch.float32))  # as the kernel's
        for block in layer.blocks:
            rows, columns = block.rows, block.columns
            part, part_lse = _block(queries[:, :, rows], keys[:, :, columns], values[:, :, columns], layer, block)
            if block.causal:
                out[:, :, rows] = part
                lse[:, :, rows] = part_lse
            else:
                _merge(out[:, :, rows], lse[:, :, rows], part, part_lse)
        if sinks is not None:
            _merge(out, lse, None, sinks.detach().to(lse.dtype).view(groups, heads, 1))
        ctx.save_for_backward(q, k, v, out_THD, lse, sinks)  # type: ignore[arg-type]
        ctx.layer = layer  # type: ignore[attr-defined]
        return out_THD.unsqueeze(0)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, v and the sinks."""
        q, k, v, out_THD, lse, sinks = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        queries, keys, values = _grouped(q, k, v)
        groups, heads, length, size = queries.shape
        by_head = (length, groups, heads, size)
        out = out_THD.view(by_head).permute(1, 2, 0, 3)
        grad = grads[0].reshape(by_head).permute(1, 2, 0, 3)
        layer, attended = cast(TreeRule, ctx.layer), Attended(queries, out, lse, grad)  # type: ignore[attr-defined]
        grad_q, grad_k, grad_v = _input_grads(attended, keys, values, layer)
        wanted = sinks is not None and sinks.requires_grad
        grad_sinks = _sinks_gradient(attended, sinks) if wanted else None
        grad_q = grad_q.reshape(1, groups * heads, length, size)
        return grad_q, grad_k.unsqueeze(0), grad_v.unsqueeze(0), grad_sinks, None


def _input_grads(attended: Attended, keys: Tensor, values: Tensor, layer: TreeRule) -> tuple[Tensor, Tensor, Tensor]:
    """Of queries [K, H/K, T, D], keys and values [K, T, D]."""
    groups, heads, length, size = attended.queries.shape
    dtype = attended.queries.dtype
    # Memory is laid out as the projections have theirs: [T, heads, D].
    grad_q = torch.empty(length, groups, heads, size, dtype=dtype).permute(1, 2, 0, 3)
    grad_k = torch.empty(length, groups, size, dtype=dtype).permute(1, 0, 2)
    grad_v = torch.empty(length, groups, size, dtype=dtype).permute(1, 0, 2)
    for block in layer.blocks:
        rows, columns = block.rows, block.columns
        part_q, part_k, part_v = _block_backward(
            attended.at(rows), keys[:, :, columns], values[:, :, columns], layer, block
        )
        if block.causal:  # these come first and cover every token once
            grad_q[:, :, rows] = part_q
            torch.sum(part_k, 1, out=grad_k[:, columns])
            torch.sum(part_v, 1, out=grad_v[:, columns])
        else:
            grad_q[:, :, rows] += part_q
            grad_k[:, columns] += part_k.sum(1)
            grad_v[:, columns] += part_v.sum(1)
    return grad_q, grad_k, grad_v


def _grouped(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[1, H, T, D] -> [K, H/K, T, D]: the heads that share keys share them without a copy (stride 0)."""
    heads, groups = q.shape[1], k.shape[1]
    shape = (groups, heads // groups, *q.shape[2:])
    return q[0].view(shape), k[0].unsqueeze(1).expand(shape), v[0].unsqueeze(1).expand(shape)


def _block(q: Tensor, k: Tensor, v: Tensor, layer: TreeRule, block: Block) -> tuple[Tensor, Tensor]:
    if layer.is_dense(block):
        return dense_block(q, k[:, 0], v[:, 0], layer.seen(block), layer.rule)
    part, lse = _flash(q, k, v, 0.0, block.causal, scale=layer.rule.scale)
    return part, lse


def _block_backward(
    attended: Attended, k: Tensor, v: Tensor, layer: TreeRule, block: Block
) -> tuple[Tensor, Tensor, Tensor]:
    """Of q for each head; of k and v for each head, or for the heads that share them together (size 1)."""
    if layer.is_dense(block):
        return dense_block_backward(attended, k[:, 0], v[:, 0], layer.seen(block), layer.rule)
    queries, out, lse, grad = attended.queries, attended.out, attended.lse, attended.grad
    grad_q, grad_k, grad_v = _flash_backward(grad, queries, k, v, out, lse, 0.0, block.causal, scale=layer.rule.scale)
    return grad_q, grad_k, grad_v


def _merge(out: Tensor, lse: Tensor, part: Tensor | None, part_lse: Tensor) -> None:
    """Adds a block's result to that of the keys seen before, in place. `part` None: its values are zero."""
    both = torch.logaddexp(lse, part_lse)
    out.mul_(torch.exp(lse - both).unsqueeze(-1))
    if part is not None:
        out.add_(part * torch.exp(part_lse - both).unsqueeze(-1))
    lse.copy_(both)


def _sinks_gradient(attended: Attended, sinks: Tensor) -> Tensor:
    """[H]: a sink takes its share of the softmax of each query from that query's result."""
    lse = attended.lse
    share = torch.exp(sinks.to(lse.dtype).view(*lse.shape[:2], 1) - lse)
    return -(share * (attended.grad * attended.out).sum(-1)).sum(-1).view_as(sinks).to(sinks.dtype)


class AttentionOptions(TypedDict, total=False):
    """The keywords of transformers' attention interface that are read here."""

    scaling: float | None
    dropout: float
    tree: Tree | None  # a keyword of the model's forward, which most families pass on
    sliding_window: int | None
    softcap: float | None
    s_aux: Tensor | None  # sinks


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Unpack[AttentionOptions],
) -> tuple[Tensor, None]:
    """Implements transformers' attention interface, over the tree in the keywords.

    Raises UnsupportedAttention for attention of other kinds.
    """
    tree, window = options.get("tree"), options.get("sliding_window")
    if tree is None:
        raise UnsupportedAttention(f"{type(module).__name__} does not pass keywords on to its attention")
    _refuse_unsupported(module, options.get("dropout", 0.0), window)
    _refuse_shapes(query, key, value)
    scaling, sinks = options.get("scaling"), options.get("s_aux")
    rule = Rule(query.shape[-1] ** -0.5 if scaling is None else scaling, window, options.get("softcap"))
    layer = TreeRule(tree, rule)
    if query.device.type != "cpu":
        return accelerated_attention(query, key, value, sinks, layer), None
    missing = query.shape[-1] - value.shape[-1]
    if missing:  # the kernel wants one size
        value = nn.functional.pad(value, (0, missing))
    out = cast(Tensor, TreeAttention.apply(query, key, value, sinks, layer))  # type: ignore[no-untyped-call]
    return (out[..., :-missing] if missing else out), None


def _refuse_unsupported(module: nn.Module, dropout: float, window: int | None) -> None:
    if dropout:
        raise UnsupportedAttention("attention scores have dropout")
    if getattr(module, "is_causal", True) is False:
        raise UnsupportedAttention("attention is not causal")
    kind = _kind(module)
    if kind not in (None, FULL_ATTENTION, SLIDING_ATTENTION):
        raise UnsupportedAttention(f"a layer is of the kind {kind}")
    if kind == SLIDING_ATTENTION and window is None:
        raise UnsupportedAttention(f"{type(module).__name__} does not pass its sliding window on")


def _refuse_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    heads, groups, size = query.shape[1], key.shape[1], query.shape[-1]
    if key.shape[-1] != size or value.shape[-1] > size or value.shape[1] != groups or heads % groups:
        shapes = ", ".join(f"{name} {tuple(one.shape)}" for name, one in (("queries", query), ("keys", key)))
        raise UnsupportedAttention(f"attention has {shapes} and values {tuple(value.shape)}")
    if key.shape[2] != query.shape[2]:
        raise UnsupportedAttention("a layer attends to other keys than those of its own tokens")


def _kind(module: nn.Module) -> str | None:
    """As the family's config calls the layer: not every family's attention says all that its mask does."""
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    index = getattr(module, "layer_idx", None)
    return str(kinds[index]) if kinds and isinstance(index, int) and index < len(kinds) else None


def accelerated_attention(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, layer: TreeRule) -> Tensor:
    """The same on an accelerator: [1, T, H, D]."""
    plain = sinks is None and layer.rule.softcap is None and not layer.tree.is_cut(layer.rule.window)
    if layer.tree.varlen and plain and computes(query, value):
        return varlen_attention(query, key, value, layer.tree.pairs(query.device), layer.rule.scale)
    return masked_attention(query, key, value, sinks, layer)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, layer: TreeRule) -> Tensor:
    """The same with a dense mask, for accelerators: through SDPA where it can.

    Its speed has not been measured.
    """
    rule = layer.rule
    seen = layer.tree.mask(rule.window, query.device)
    if rule.softcap is not None or sinks is not None:
        return dense_attention(query, key, value, seen, rule, sinks).transpose(1, 2).contiguous()
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=rule.scale, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous()


def register() -> None:
    """Makes the tree known to transformers under NAME.

    No mask function is registered, so that none is computed.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tree_attention)
