"""A token tree as sequences of queries with the keys that they see.

For kernels that take many of them in a call.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.train.core.packing import Node

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sequences of queries, and for each one of keys, as the kernel reads them."""

    queries: Tensor | None  # places of the queries in the packed step [Q]; None: all of them, in order
    keys: Tensor | None
    query_ends: Tensor  # [pairs + 1], from 0, int32
    key_ends: Tensor
    longest_query: int
    longest_key: int
    causal: bool

    def of_queries(self, tensor: Tensor) -> Tensor:
        """The rows of `tensor` [T, …] that are queries here."""
        return tensor if self.queries is None else tensor.index_select(0, self.queries)

    def of_keys(self, tensor: Tensor) -> Tensor:
        """The rows of `tensor` [T, …] that are keys here."""
        return tensor if self.keys is None else tensor.index_select(0, self.keys)


def tree_pairs(nodes: Sequence[Node], device: torch.device) -> list[Pairs]:
    """The calls that compute a tree.

    The nodes themselves first, then by the depth of an ancestor.
    """
    found = [_pairs([(node.start, node.stop) for node in nodes], None, device)]
    depths: list[int] = []
    for node in nodes:
        depths.append(0 if node.parent < 0 else depths[node.parent] + 1)
    for depth in range(max(depths)):
        here = [node for node, at in zip(nodes, depths, strict=True) if at == depth and node.end > node.stop]
        spans = [(node.start, node.stop) for node in here]
        found.append(_pairs([(node.stop, node.end) for node in here], spans, device))
    return found


def _pairs(queries: list[Span], keys: list[Span] | None, device: torch.device) -> Pairs:
    """`keys` None: each sequence against itself, causal; together they are the whole step."""
    if keys is None:
        ends = _ends(queries, device)
        return Pairs(None, None, ends, ends, _longest(queries), _longest(queries), causal=True)
    return Pairs(
        _places(queries, device),
        _places(keys, device),
        _ends(queries, device),
        _ends(keys, device),
        _longest(queries),
        _longest(keys),
        causal=False,
    )


def _places(spans: list[Span], device: torch.device) -> Tensor:
    return torch.tensor([place for first, end in spans for place in range(first, end)], device=device)


def _ends(spans: list[Span], device: torch.device) -> Tensor:
    ends = [0]
    for first, end in spans:
        ends.append(ends[-1] + end - first)
    return torch.tensor(ends, dtype=torch.int32, device=device)


def _longest(spans: list[Span]) -> int:
    return max(end - first for first, end in spans)
