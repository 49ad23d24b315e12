"""Windows, soft-capped scores and sinks on the token tree: result and gradient of each row alone (float64)."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tunesmith.train.core.packing import Packed, TokenRow, pack
from tunesmith.train.core.token_tree import Tree
from tunesmith.train.core.tree_pairs import Pairs
from tunesmith.train.layers.attention import (
    AttentionOptions,
    TreeAttention,
    TreeRule,
    UnsupportedAttention,
    masked_attention,
    tree_attention,
)
from tunesmith.train.layers.dense_blocks import Rule
from tunesmith.train.layers.varlen_attention import varlen_attention

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


@pytest.mark.parametrize("way", ["blocks", "mask"])
def test_scores_of_a_bf16_base_are_summed_in_float32(way: str) -> None:
    """Scores of 30 rounded to bfloat16 are off by an eighth, and so are the weights made of them."""
    draw = torch.Generator().manual_seed(0)
    packed = pack([TokenRow(tuple(range(40)), (1.0,) * 40), TokenRow((*range(20), *range(60, 80)), (1.0,) * 40)])
    shapes = ((1, HEADS, 60, 64), (1, GROUPS, 60, 64), (1, GROUPS, 60, 64))
    narrow = [(2 * torch.randn(shape, generator=draw)).bfloat16().requires_grad_() for shape in shapes]
    wide = [one.detach().float().requires_grad_() for one in narrow]
    weights = torch.randn(60, HEADS, 64, generator=draw)
    layer = TreeRule(Tree.of(packed, 16), Rule(0.25, softcap=50.0))
    attend = TreeAttention.apply if way == "blocks" else masked_attention
    result, expected = (attend(q, k, v, None, layer) for q, k, v in (narrow, wide))
    assert result.dtype == torch.bfloat16
    assert float((result.detach().float() - expected.detach()).norm() / expected.detach().norm()) < 0.005
    mine = torch.autograd.grad((result.float() * weights).sum(), narrow)
    theirs = torch.autograd.grad((expected * weights).sum(), wide)
    for one, other in zip(mine, theirs, strict=True):
        assert float((one.float() - other).norm() / other.norm()) < 0.02


@settings(max_examples=40, deadline=None)
@given(packed=packed_trees(), window=st.none() | st.integers(1, 16), chunk=st.integers(2, 20))
def test_the_whole_mask_is_what_the_blocks_see(packed: Packed, window: int | None, chunk: int) -> None:
    tree = Tree.of(packed, chunk)
    expected = torch.zeros(packed.length, packed.length, dtype=torch.bool)
    for block in tree.within(window):
        seen = tree.seen(block, window)
        expected[block.rows, block.columns] = True if seen is None else seen
    assert torch.equal(tree.mask(window), expected)
    assert tree.mask(window) is tree.mask(window)


class PlainKernel:
    """What FlashAttention computes of pairs, pair by pair."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, pairs: Pairs, scale: float) -> tuple[Tensor, Tensor]:
        parts = [self._scores(q[rows], k[columns], pairs, scale) for rows, columns in self._spans(pairs)]
        values = [v[columns].repeat_interleave(HEADS // GROUPS, 1) for _, columns in self._spans(pairs)]
        outs = [torch.einsum("hqn,nhd->qhd", one.softmax(-1), value) for one, value in zip(parts, values, strict=True)]
        return torch.cat(outs), torch.cat([one.logsumexp(-1) for one in parts], 1)

    def backward(
        self, grad: Tensor, qkv: tuple[Tensor, ...], out_lse: tuple[Tensor, Tensor], pairs: Pairs, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = tuple(torch.zeros_like(one) for one in qkv)
        (q, k, v), (out, lse) = qkv, out_lse
        for rows, columns in self._spans(pairs):
            wide = [one[columns].repeat_interleave(HEADS // GROUPS, 1) for one in (k, v)]
            shares = torch.exp(self._scores(q[rows], k[columns], pairs, scale) - lse[:, rows].unsqueeze(-1))
            from_sum = (grad[rows] * out[rows]).sum(-1).t().unsqueeze(-1)
            inner = shares * (torch.einsum("qhd,nhd->hqn", grad[rows], wide[1]) - from_sum) * scale
            found[0][rows] += torch.einsum("hqn,nhd->qhd", inner, wide[0])
            by_head = torch.einsum("hqn,qhd->nhd", inner, q[rows]), torch.einsum("hqn,qhd->nhd", shares, grad[rows])
            for total, one in zip(found[1:], by_head, strict=True):
                total[columns] += one.unflatten(1, (GROUPS, -1)).sum(2)
        return found[0], found[1], found[2]

    def _scores(self, q: Tensor, k: Tensor, pairs: Pairs, scale: float) -> Tensor:
        scores = torch.einsum("qhd,nhd->hqn", q, k.repeat_interleave(HEADS // GROUPS, 1)) * scale
        later = torch.ones_like(scores, dtype=torch.bool).triu(1)
        return scores.masked_fill(later, -torch.inf) if pairs.causal else scores

    def _spans(self, pairs: Pairs) -> list[tuple[slice, slice]]:
        ends = zip(*(one.tolist() for one in (pairs.query_ends, pairs.key_ends)), strict=True)
        places = [*ends]
        assert max(after[0] - before[0] for before, after in pairwise(places)) == pairs.longest_query
        assert max(after[1] - before[1] for before, after in pairwise(places)) == pairs.longest_key
        return [(slice(before[0], after[0]), slice(before[1], after[1])) for before, after in pairwise(places)]


@settings(max_examples=40, deadline=None)
@given(packed=packed_trees())
def test_calls_by_depth_equal_the_attention_of_each_row_alone(packed: Packed) -> None:
    draw = torch.Generator().manual_seed(packed.length)
    shapes = ((1, HEADS, packed.length, SIZE), (1, GROUPS, packed.length, SIZE), (1, GROUPS, packed.length, SIZE))
    inputs = [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]
    weights = torch.randn(packed.length, HEADS, SIZE, generator=draw, dtype=torch.float64)
    rule = Rule(1 / math.sqrt(SIZE))
    expected = value_and_gradients(rows_alone(packed, inputs, weights, rule, None), inputs)
    calls = Tree.of(packed).pairs(torch.device("cpu"))
    q, k, v = inputs
    out = varlen_attention(q, k, v, calls, rule.scale, PlainKernel())
    result = value_and_gradients(on_the_tree(out, packed, weights), inputs)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-10)


def test_a_tree_takes_a_call_for_each_depth_however_many_rows_it_has() -> None:
    system, questions = tuple(range(20)), [tuple(range(100 * n, 100 * n + 12)) for n in range(1, 5)]
    rows = [(*system, *question, *range(1000 * n, 1000 * n + 9)) for question in questions for n in range(1, 9)]
    tree = Tree.of(pack([TokenRow(ids, (1.0,) * len(ids)) for ids in rows]))
    itself, under_system, under_questions = tree.pairs(torch.device("cpu"))
    assert (itself.causal, len(itself.query_ends) - 1) == (True, 1 + 4 + 32)
    assert (under_system.longest_key, len(under_system.query_ends) - 1) == (20, 1)
    assert (under_questions.longest_key, under_questions.longest_query) == (12, 8 * 9)
