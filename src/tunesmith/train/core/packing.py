"""Rows of token ids -> one packed sequence that has each common prefix once.

The rows of a step form a trie: a node is a run of tokens, its children are the runs that follow it in different
rows. Nodes are laid out depth first, so the tokens of a node are contiguous and so are those of all its
descendants: attention over the tree then takes dense blocks (`layers.attention`) and no mask.
Pure Python: a step has thousands of tokens, not millions. Knows nothing of torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.render.prefix import common_prefix

ENOUGH_TOKENS = 512  # more tokens at once make no matrix product faster, but each holds 0.8 MB (SmolLM2-135M)
AGAIN_SHARE = 0.05  # of a micro-batch may be computed again for the sake of smaller ones
MIN_SHARED = 8  # a node costs two attention calls a layer; fewer tokens are cheaper computed twice


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One row of a file as tokens.

    `weights[i]` says how much token i is learned (0: not at all).
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    line: int = 0  # in its file, from 1; 0 = not from a file

    @property
    def learned(self) -> int:
        """How many tokens are learned; the first has nothing to be predicted from."""
        return sum(weight != 0.0 for weight in self.weights[1:])


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens [start, stop) of the packed sequence; their descendants are [stop, end)."""

    start: int
    stop: int
    end: int
    parent: int  # index of the parent node, -1 for a root


@dataclass(frozen=True, slots=True)
class Learned:
    """A prediction that is learned: token `target` after packed position `source`."""

    source: int
    target: int
    weight: float
    row: int


@dataclass(frozen=True, slots=True)
class Packed:
    """The tokens of several rows, with each distinct prefix once."""

    ids: list[int]
    positions: list[int]  # as if the row stood alone
    nodes: list[Node]
    learned: list[Learned]
    rows: int

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.ids)


def pack(rows: Sequence[TokenRow], min_shared: int = MIN_SHARED) -> Packed:
    """The rows as a token tree.

    A prefix shorter than `min_shared` tokens is not shared: a node has its price. Rows are sorted by their ids, which
    makes common prefixes neighbours; `Learned.row` is the index in `rows`.
    """
    order = sorted(range(len(rows)), key=lambda index: rows[index].ids)
    packer = _Packer(rows, min_shared, Packed([], [], [], [], len(rows)), [[] for _ in rows])
    packer.place(order, 0, -1)
    for index, row in enumerate(rows):
        where = packer.sources[index]
        packer.packed.learned.extend(
            Learned(where[i - 1], row.ids[i], row.weights[i], index)
            for i in range(1, len(row.ids))
            if row.weights[i] != 0.0
        )
    return packer.packed


@dataclass(frozen=True, slots=True)
class _Packer:
    rows: Sequence[TokenRow]
    min_shared: int
    packed: Packed
    sources: list[list[int]]  # of each row: the packed positions of its tokens

    def place(self, order: list[int], depth: int, parent: int) -> None:
        """Appends the subtree of the rows in `order`, whose first `depth` tokens agree."""
        packed = self.packed
        for group in self._groups(order, depth):
            first = self.rows[group[0]].ids
            until = common_prefix(first, self.rows[group[-1]].ids, depth) if len(group) > 1 else len(first)
            until = min(until, min(len(self.rows[index].ids) for index in group))
            start, stop = packed.length, packed.length + until - depth
            packed.ids.extend(first[depth:until])
            packed.positions.extend(range(depth, until))
            for index in group:
                self.sources[index].extend(range(start, stop))
            number = len(packed.nodes)
            packed.nodes.append(Node(start, stop, stop, parent))
            rest = [index for index in group if len(self.rows[index].ids) > until]
            if rest:
                self.place(rest, until, number)
                packed.nodes[number] = Node(start, stop, packed.length, parent)

    def _groups(self, order: list[int], depth: int) -> list[list[int]]:
        """Neighbours that share at least `min_shared` tokens after `depth`; rows are in sorted order."""
        groups: list[list[int]] = []
        for index in order:
            if groups:
                first = self.rows[groups[-1][0]].ids
                shared = common_prefix(first, self.rows[index].ids, depth) - depth
                if shared >= self.min_shared or self.rows[index].ids == first:
                    groups[-1].append(index)
                    continue
            groups.append([index])
        return groups


def split(examples: Sequence[Sequence[TokenRow]], budget: int, enough: int = ENOUGH_TOKENS) -> list[list[int]]:
    """Divides examples into micro-batches of at most `budget` distinct tokens each.

    Returns indices of `examples`; one that is longer than the budget is alone. An example is one row, or the rows that
    a loss compares. They are taken in sorted order, so that those with a common prefix stay together. A micro-batch
    that would grow beyond `enough` ends early, to save memory, where little of a prefix is computed again for the next.
    """
    order = sorted(range(len(examples)), key=lambda index: examples[index][0].ids)
    parts: list[list[int]] = []
    used = 0
    before: tuple[int, ...] = ()
    for index in order:
        added, alone = added_tokens(before, examples[index]), added_tokens((), examples[index])
        cheap = alone - added <= AGAIN_SHARE * used
        if not parts or used + added > budget or (used + added > enough and cheap):
            parts.append([])
            used, added = 0, alone
        parts[-1].append(index)
        used += added
        before = examples[index][0].ids
    return parts


def largest_part(examples: Sequence[Sequence[TokenRow]], budget: int, enough: int = ENOUGH_TOKENS) -> int:
    """Distinct tokens of the largest micro-batch that `split` makes of the examples."""
    return max(
        added_tokens((), [row for index in part for row in examples[index]]) for part in split(examples, budget, enough)
    )


def added_tokens(before: tuple[int, ...], rows: Sequence[TokenRow]) -> int:
    """Distinct tokens that `rows` add after a neighbour with the ids `before`."""
    added = 0
    for row in rows:
        added += len(row.ids) - common_prefix(before, row.ids)
        before = row.ids
    return added
