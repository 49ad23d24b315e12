"""Which rows of a step each rank takes: whole rows, and about as many tokens.

Rows with a common prefix are best kept by one rank, which computes it once; rows of different lengths are best dealt
out by length. Both divisions are made, and the one whose heaviest rank has fewer tokens is taken. Pure Python, and a
function of the rows alone: every rank makes it for itself.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tunesmith.train.core.batches import Example
from tunesmith.train.core.packing import TokenRow, added_tokens
from tunesmith.train.ranks.group import Ranks

Unit = Sequence[TokenRow]  # a row, or those that a loss compares


def divide(units: Sequence[Unit], ranks: int) -> list[list[int]]:
    """Indices of `units` for each rank, in ascending order.

    A rank has none where there are fewer units than ranks.
    """
    if ranks == 1 or not units:
        return [list(range(len(units))), *([] for _ in range(ranks - 1))]
    order = sorted(range(len(units)), key=lambda index: units[index][0].ids)
    neighbours, dealt = _neighbours(units, order, ranks), _dealt(units, order, ranks)
    chosen = min((neighbours, dealt), key=lambda shares: max(share.tokens for share in shares))
    return [sorted(share.units) for share in chosen]


def share_of_units(units: Sequence[tuple[TokenRow, ...]], ranks: Ranks) -> list[tuple[TokenRow, ...]]:
    """Those that this rank takes."""
    return [units[index] for index in divide(units, ranks.size)[ranks.place.rank]]


def share_of_examples(examples: Sequence[Example], ranks: Ranks) -> Sequence[Example]:
    """Those that this rank takes."""
    if ranks.size == 1:
        return examples
    mine = divide([example.rows for example in examples], ranks.size)[ranks.place.rank]
    return [examples[index] for index in mine]


@dataclass(slots=True)
class _Share:
    """What one rank takes. `keys`: the ids of its units, in sorted order, for which `tokens` is counted."""

    units: list[int] = field(default_factory=list)
    keys: list[tuple[int, ...]] = field(default_factory=list)
    tokens: int = 0


def _neighbours(units: Sequence[Unit], order: list[int], ranks: int) -> list[_Share]:
    """Runs of neighbours in sorted order, of the least possible tokens for the heaviest rank."""
    alone = [added_tokens((), units[index]) for index in order]
    before = [(), *(units[index][0].ids for index in order[:-1])]
    added = [added_tokens(ids, units[index]) for ids, index in zip(before, order, strict=True)]
    low, high = max(alone), sum(alone)
    while low < high:
        middle = (low + high) // 2
        if sum(1 for _ in _runs(alone, added, middle)) <= ranks:
            high = middle
        else:
            low = middle + 1
    shares = [
        _Share([order[place] for place in range(start, stop)], tokens=tokens)
        for start, stop, tokens in _runs(alone, added, low)
    ]
    return shares + [_Share() for _ in range(ranks - len(shares))]


def _runs(alone: list[int], added: list[int], most: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, tokens) of runs that are as long as `most` tokens allow."""
    start, tokens = 0, alone[0]
    for place in range(1, len(alone)):
        if tokens + added[place] > most:
            yield start, place, tokens
            start, tokens = place, alone[place]
        else:
            tokens += added[place]
    yield start, len(alone), tokens


def _dealt(units: Sequence[Unit], order: list[int], ranks: int) -> list[_Share]:
    """The longest first, each to the rank that has the fewest tokens with it."""
    shares = [_Share() for _ in range(ranks)]
    for index in sorted(order, key=lambda index: -added_tokens((), units[index])):  # sorted() keeps the order
        grown = [_grown(share, units, units[index]) for share in shares]
        rank = min(range(ranks), key=grown.__getitem__)
        share, key = shares[rank], units[index][0].ids
        at = bisect_left(share.keys, key)
        share.keys.insert(at, key)
        share.units.insert(at, index)
        share.tokens = grown[rank]
    return shares


def _grown(share: _Share, units: Sequence[Unit], unit: Unit) -> int:
    """How many tokens `share` has with `unit`, by what is new beside its neighbours."""
    at = bisect_left(share.keys, unit[0].ids)
    before = share.keys[at - 1] if at else ()
    tokens = share.tokens + added_tokens(before, unit)
    if at < len(share.keys):
        after = units[share.units[at]]
        tokens += added_tokens(unit[0].ids, after) - added_tokens(before, after)
    return tokens
