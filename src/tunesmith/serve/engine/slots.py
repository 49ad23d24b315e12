"""Where the keys and values of sequences stand, and which of them can be used again.

A slot holds the keys and values of one sequence. When the sequence ends they stay until the slot is needed, so that
the next turn of a conversation, or the next request with the same system message, computes only what is new. What may
be shared is decided by `key`: the same tokens under another adapter have other keys and values, and another project
must not learn from the time an answer takes what somebody else asked. Pure bookkeeping: knows no tensors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

CacheKey: TypeAlias = tuple[str, Path | None]  # project, adapter
WORTH_COPYING = 16  # tokens; fewer are computed again


class Storage(Protocol):
    """The tensors behind the slots, by a slot's number."""

    def copy(self, source: int, target: int, length: int) -> None:
        """The first `length` positions of one slot become those of another."""
        ...

    def release(self, slot: int) -> None:
        """Nothing in the slot is needed any more: its memory may go."""
        ...


@dataclass(slots=True, eq=False)
class Slot:
    number: int
    key: CacheKey | None = None
    tokens: list[int] = field(default_factory=list)  # whose keys and values it holds; its user appends to them
    busy: bool = False
    used_at: int = 0  # ticks of `Slots`, to find the least recently used


class Slots:
    def __init__(self, count: int, storage: Storage, *, reusable: bool = True) -> None:
        """`reusable`: keys and values can be cut at any position, which sliding windows cannot."""
        self._slots = [Slot(number) for number in range(count)]
        self._storage = storage
        self._reusable = reusable
        self._tick = 0

    @property
    def free(self) -> int:
        return sum(not slot.busy for slot in self._slots)

    @property
    def kept_positions(self) -> int:
        """Positions that only wait for somebody to use them again."""
        return sum(len(slot.tokens) for slot in self._slots if not slot.busy)

    def take(self, key: CacheKey, tokens: Sequence[int], *, reuse: bool = True) -> tuple[Slot, int]:
        """A slot for a sequence that begins with `tokens`, and how many of them it holds already.

        Never all of them: the last one is computed for its logits; none without `reuse`. Some slot must be free.
        """
        known = self._slots if reuse else []
        idle, idle_shared = self._best(key, tokens, (slot for slot in known if not slot.busy))
        other, other_shared = self._best(key, tokens, (slot for slot in known if slot.busy))
        empty = next((slot for slot in self._slots if not slot.busy and not slot.tokens), None)
        takes_over = idle is not None and (empty is None or 2 * idle_shared >= len(idle.tokens))
        if idle is not None and takes_over and idle_shared + WORTH_COPYING >= other_shared:
            return self._occupy(idle, key, tokens[:idle_shared]), idle_shared
        source, shared = (idle, idle_shared) if idle_shared >= other_shared else (other, other_shared)
        target = empty or min((slot for slot in self._slots if not slot.busy), key=lambda slot: slot.used_at)
        if source is None or source is target or shared < WORTH_COPYING:
            shared = 0
        else:
            self._storage.copy(source.number, target.number, shared)
        return self._occupy(target, key, tokens[:shared]), shared

    def give(self, slot: Slot) -> None:
        """The sequence is over; what the slot holds stays for the next."""
        slot.busy = False
        self._tick += 1
        slot.used_at = self._tick
        if not self._reusable:
            self._drop(slot)

    def drop(self, slot: Slot) -> None:
        """The sequence is over and what it left cannot be trusted."""
        slot.busy = False
        self._drop(slot)

    def forget(self, positions: int) -> None:
        """Lets the least recently used go until at least `positions` are given back, or none is left."""
        kept = sorted((slot for slot in self._slots if not slot.busy and slot.tokens), key=lambda slot: slot.used_at)
        for slot in kept:
            if positions <= 0:
                return
            positions -= len(slot.tokens)
            self._drop(slot)

    def _best(self, key: CacheKey, tokens: Sequence[int], slots: Iterable[Slot]) -> tuple[Slot | None, int]:
        best, longest = None, 0
        for slot in slots:
            if slot.key == key and self._reusable:
                shared = shared_length(slot.tokens, tokens, len(tokens) - 1)
                if shared > longest:
                    best, longest = slot, shared
        return best, longest

    def _occupy(self, slot: Slot, key: CacheKey, tokens: Sequence[int]) -> Slot:
        slot.key, slot.tokens, slot.busy = key, [*tokens], True
        return slot

    def _drop(self, slot: Slot) -> None:
        slot.key, slot.tokens = None, []
        self._storage.release(slot.number)


def shared_length(one: Sequence[int], other: Sequence[int], limit: int) -> int:
    """How many leading tokens are equal, at most `limit`."""
    low, high = 0, min(len(one), len(other), limit)
    while low < high:  # comparing slices runs in C: halving beats walking
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
