"""Windows, soft-capped scores and sinks on the token tree: result and gradient of each row alone (float64)."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tunesmith.train.core.packing import Packed, TokenRow, pack
from tunesmith.train.core.token_tree import Tree
from tunesmith.train.layers.attention import (
    AttentionOptions,
    TreeAttention,
    TreeRule,
    UnsupportedAttention,
    masked_attention,
    tree_attention,
)
from tunesmith.train.layers.dense_blocks import Rule

HEADS, GROUPS, SIZE = 4, 2, 4


@st.composite
def packed_trees(draw: st.DrawFn) -> Packed:
    """Rows that fork off one another at any depth, every token learned."""
    rows: list[tuple[int, ...]] = []
    for number in range(draw(st.integers(1, 5))):
        before = draw(st.sampled_from(rows)) if rows else ()
        kept = before[: draw(st.integers(0, len(before)))]
        rows.append((*kept, *(100 * number + i for i in range(draw(st.integers(2, 14))))))
    return pack([TokenRow(ids, (1.0,) * len(ids)) for ids in rows], min_shared=2)


def row_alone(q: Tensor, k: Tensor, v: Tensor, rule: Rule, sinks: Tensor | None) -> Tensor:
    """[H, T, D]: the definition, one query after the other."""
    results = []
    for query in range(q.shape[1]):
        first = 0 if rule.window is None else max(0, query + 1 - rule.window)
        keys = k[:, first : query + 1].repeat_interleave(HEADS // GROUPS, 0)
        values = v[:, first : query + 1].repeat_interleave(HEADS // GROUPS, 0)
        scores = (keys @ q[:, query].unsqueeze(-1)).squeeze(-1) * rule.scale
        if rule.softcap is not None:
            scores = rule.softcap * torch.tanh(scores / rule.softcap)
        powers = torch.exp(scores)
        total = powers.sum(-1, keepdim=True) + (0.0 if sinks is None else torch.exp(sinks).unsqueeze(-1))
        results.append(((powers / total).unsqueeze(1) @ values).squeeze(1))
    return torch.stack(results, 1)


def rows_alone(packed: Packed, inputs: list[Tensor], weights: Tensor, rule: Rule, sinks: Tensor | None) -> Tensor:
    """Sum over rows and queries of weights [T, H, D] times the result; a row's last token has nothing to predict."""
    total = torch.zeros((), dtype=torch.float64)
    for row in range(packed.rows):
        path = torch.tensor([item.source for item in packed.learned if item.row == row])
        q, k, v = (one[0].index_select(1, path) for one in inputs)
        total = total + (row_alone(q, k, v, rule, sinks) * weights[path].transpose(0, 1)).sum()
    return total


def on_the_tree(out: Tensor, packed: Packed, weights: Tensor) -> Tensor:
    sources = torch.tensor([item.source for item in packed.learned])
    return (out[0].index_select(0, sources) * weights[sources]).sum()


def value_and_gradients(total: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return [total.detach(), *torch.autograd.grad(total, leaves)]


@pytest.mark.parametrize("way", ["blocks", "mask"])
@settings(max_examples=30, deadline=None)
@given(
    packed=packed_trees(),
    window=st.none() | st.integers(1, 16),
    softcap=st.none() | st.floats(0.5, 5.0),
    sinks=st.sampled_from(["none", "frozen", "trained"]),
    chunk=st.integers(2, 20),
)
def test_every_kind_of_attention_equals_that_of_each_row_alone(
    way: str, packed: Packed, window: int | None, softcap: float | None, sinks: str, chunk: int
) -> None:
    draw = torch.Generator().manual_seed(packed.length)
    shapes = ((1, HEADS, packed.length, SIZE), (1, GROUPS, packed.length, SIZE), (1, GROUPS, packed.length, SIZE))
    inputs = [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]
    weights = torch.randn(packed.length, HEADS, SIZE, generator=draw, dtype=torch.float64)
    sink = None if sinks == "none" else torch.randn(HEADS, generator=draw, dtype=torch.float64)
    leaves = inputs if sink is None or sinks == "frozen" else [*inputs, sink.requires_grad_()]
    rule, tree = Rule(1 / math.sqrt(SIZE), window, softcap), Tree.of(packed, chunk)
    expected = value_and_gradients(rows_alone(packed, inputs, weights, rule, sink), leaves)
    q, k, v = inputs
    attend = TreeAttention.apply if way == "blocks" else masked_attention
    out = attend(q, k, v, sink, TreeRule(tree, rule))
    result = value_and_gradients(on_the_tree(out, packed, weights), leaves)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-10)


def test_keys_outside_the_window_are_not_computed() -> None:
    packed = pack([TokenRow(tuple(range(100)), (1.0,) * 100)])
    blocks = Tree.of(packed, chunk=10).within(20)
    computed = sum((block.query_end - block.query) * (block.key_end - block.key) for block in blocks)
    assert computed == 10 * 100 + 10 * 10 * 9 + 10 * 9 * 8  # itself, the chunk before, and nine rows of the one before
    assert {(block.query - block.key, block.cut) for block in blocks} == {(0, False), (10, False), (20, True)}


class Layer(nn.Module):
    """The second layer of a model, as transformers describes it."""

    layer_idx = 1

    def __init__(self, kind: str, causal: bool = True) -> None:
        super().__init__()
        self.is_causal = causal
        self.config = SimpleNamespace(layer_types=["full_attention", kind])


@pytest.mark.parametrize(
    ("layer", "options", "reason"),
    [
        (Layer("chunked_attention"), {}, "a layer is of the kind chunked_attention"),
        (Layer("sliding_attention"), {}, "Layer does not pass its sliding window on"),
        (Layer("full_attention"), {"dropout": 0.1}, "scores have dropout"),
        (Layer("full_attention", causal=False), {}, "not causal"),
    ],
)
def test_what_the_tree_does_not_compute_is_refused_by_name(
    layer: Layer, options: AttentionOptions, reason: str
) -> None:
    q = torch.zeros(1, HEADS, 3, SIZE)
    tree = Tree.of(pack([TokenRow((1, 2, 3), (1.0,) * 3)]))
    with pytest.raises(UnsupportedAttention, match=reason):
        tree_attention(layer, q, q, q, None, **(AttentionOptions(tree=tree) | options))
