"""A short row's attention is torch's causal attention, and the tree's."""

from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.train.attention import Tree, TreeAttention, tree_attention
from tunesmith.train.packing import TokenRow, pack
from tunesmith.train.row_attention import SHORT, RowAttention

from .test_fused import assert_same


def heads(count: int, length: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """[1, count, length, 4], laid out as a projection leaves it."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(1, length, count, 4, dtype=dtype, generator=draw).transpose(1, 2).requires_grad_()


def test_a_short_row_has_the_value_and_gradient_of_causal_attention() -> None:
    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return cast(Tensor, RowAttention.apply(q, k, v, 0.3))

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
        return out.transpose(1, 2)

    for length in (1, 7, 33):
        assert_same(fused, plain, heads(6, length, 0), heads(2, length, 1), heads(2, length, 2))


def test_rows_on_both_sides_of_the_border_have_the_trees_attention() -> None:
    for length in (SHORT, SHORT + 1):
        tree = Tree.of(pack([TokenRow(tuple(range(length)), (1.0,) * length)]))
        inputs = [heads(count, length, count, torch.float32) for count in (6, 2, 2)]
        chosen, _ = tree_attention(nn.Module(), inputs[0], inputs[1], inputs[2], None, 0.5, tree=tree)
        assert ("Row" in type(chosen.grad_fn).__name__) == (length == SHORT)
        expected = cast(Tensor, TreeAttention.apply(*inputs, tree, 0.5))
        torch.testing.assert_close(chosen, expected)
        direction = torch.randn_like(expected)
        mine, theirs = (torch.autograd.grad((out * direction).sum(), inputs) for out in (chosen, expected))
        torch.testing.assert_close(mine, theirs)
