"""Which tokens of a packed step see which, as blocks of queries and keys.

With nodes laid out depth first (`core.packing`) these are each node against itself (causal), and all descendants of a
node, which are contiguous, against the node (full). A sliding window counts positions of the row, which are not places
of the packed step: a block is cut where its queries leave the window.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch
from torch import Tensor

from tunesmith.train.core.packing import Node, Packed
from tunesmith.train.core.tree_pairs import Pairs, tree_pairs

CHUNK = 256  # a causal block this long wastes half of itself: longer nodes are cut and become a chain


@dataclass(frozen=True, slots=True)
class Block:
    """Queries [query, query_end) against keys [key, key_end)."""

    query: int
    query_end: int
    key: int
    key_end: int
    causal: bool
    cut: bool = False  # some of its queries do not see some of its keys, because of a window; each query sees one

    @property
    def rows(self) -> slice:
        """The rows of the block: its queries."""
        return slice(self.query, self.query_end)

    @property
    def columns(self) -> slice:
        """The columns of the block: its keys."""
        return slice(self.key, self.key_end)


@dataclass(frozen=True, slots=True)
class Tree:
    """The blocks of one packed step.

    The causal ones come first and cover every query once.
    """

    blocks: list[Block]
    positions: Tensor  # of the tokens in their row [T]
    ends: Tensor  # where the descendants of each token's node end [T]
    nodes: list[Node]
    longest: int  # tokens of the longest row
    varlen: bool = False  # on a GPU: attention through `layers.varlen_attention` where it computes the layer
    _windowed: dict[int, list[Block]] = field(default_factory=dict)  # layers share a window
    _pairs: dict[torch.device, list[Pairs]] = field(default_factory=dict)
    _masks: dict[tuple[int | None, torch.device], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, packed: Packed, chunk: int = CHUNK, *, varlen: bool = False) -> "Tree":
        """Each node against itself, and its descendants against it, in parts of `chunk`."""
        causal, full = [], []
        for node in packed.nodes:
            for start in range(node.start, node.stop, chunk):
                stop = min(start + chunk, node.stop)
                causal.append(Block(start, stop, start, stop, causal=True))
                if node.end > stop:
                    full.append(Block(stop, node.end, start, stop, causal=False))
        ends = [node.end for node in packed.nodes for _ in range(node.start, node.stop)]
        positions, longest = torch.tensor(packed.positions), max(packed.positions, default=0) + 1
        return cls(causal + full, positions, torch.tensor(ends), packed.nodes, longest, varlen)

    @property
    def length(self) -> int:
        """How many tokens the step has."""
        return len(self.positions)

    def within(self, window: int | None) -> list[Block]:
        """The blocks with a sliding window; None: without one.

        A query sees only keys less than `window` positions before it.
        """
        if window is None:
            return self.blocks
        if window not in self._windowed:
            positions = self.positions.tolist()
            self._windowed[window] = [part for block in self.blocks for part in _cut(block, positions, window)]
        return self._windowed[window]

    def seen(self, block: Block, window: int | None) -> Tensor | None:
        """The mask of a block [queries, keys], true where a query sees a key; None: all."""
        causal = torch.ones(block.query_end - block.query, block.key_end - block.key, dtype=torch.bool)
        causal = causal.tril() if block.causal else causal
        if window is None or not block.cut:
            return causal if block.causal else None
        return causal & (self.positions[block.rows, None] - self.positions[None, block.columns] < window)

    def is_cut(self, window: int | None) -> bool:
        """Whether some row is longer than the window."""
        return window is not None and window < self.longest

    def pairs(self, device: torch.device) -> list[Pairs]:
        """The calls of `layers.varlen_attention`, made once for all layers."""
        if device not in self._pairs:
            self._pairs[device] = tree_pairs(self.nodes, device)
        return self._pairs[device]

    def mask(self, window: int | None, device: torch.device | None = None) -> Tensor:
        """The same for the complete step [T, T].

        It is made where it is used, once for all layers with this window. With nodes laid out depth first a query sees
        the keys before it whose descendants end behind it.
        """
        known = (window if self.is_cut(window) else None, device or self.positions.device)
        if known not in self._masks:
            self._masks[known] = self._whole(*known)
        return self._masks[known]

    def _whole(self, window: int | None, device: torch.device) -> Tensor:
        places = torch.arange(self.length, device=device)
        seen = (places[None] <= places[:, None]) & (places[:, None] < self.ends.to(device)[None])
        if window is None:
            return seen
        positions = self.positions.to(device)
        return seen.logical_and_(positions[:, None] - positions[None] < window)


def _cut(block: Block, positions: list[int], window: int) -> Iterator[Block]:
    """The parts of a block whose queries see all of its keys, and those whose queries see some."""
    first, last = positions[block.key], positions[block.key_end - 1]
    if block.causal:
        yield replace(block, cut=last - first >= window)
        return

    def see(query: int) -> tuple[bool, bool]:
        return positions[query] - last < window, positions[query] - first < window

    for (some, everything), run in groupby(range(block.query, block.query_end), see):
        if some:
            queries = [*run]
            yield replace(block, query=queries[0], query_end=queries[-1] + 1, cut=not everything)
