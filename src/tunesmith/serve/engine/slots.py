"""The prefix cache: whose keys and values are where, and can be reused.

A slot holds the keys and values of one sequence. When the sequence ends they stay until the slot is needed, so that
the next turn of a conversation, or the next request with the same system message, computes only what is new. `key`
decides what may be shared: the same tokens have other keys and values under another adapter, and response times must
not tell one project what another one asked. Pure bookkeeping without tensors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from tunesmith.render.prefix import common_prefix

CacheKey: TypeAlias = tuple[str, Path | None]  # project, adapter
WORTH_COPYING = 16  # tokens; fewer are computed again


class Storage(Protocol):
    """The tensors behind the slots, by a slot's number."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` positions of one slot to another."""
        ...

    def clear(self, slot: int) -> None:
        """Empties a slot; its memory may be freed."""
        ...


@dataclass(slots=True, eq=False)
class Slot:
    """Room for the keys and values of one sequence."""

    number: int
    key: CacheKey | None = None
    tokens: list[int] = field(default_factory=list)  # whose keys and values it holds; the sequence appends to it
    busy: bool = False
    used_at: int = 0  # ticks of `Slots`, to find the least recently used


class Slots:
    """All slots of a model: in use by a sequence, kept for reuse, or empty."""

    def __init__(self, count: int, storage: Storage, *, reusable: bool = True) -> None:
        """`reusable`: keys and values can be cut at any position, which sliding windows do not allow."""
        self._slots = [Slot(number) for number in range(count)]
        self._storage = storage
        self._reusable = reusable
        self._tick = 0

    @property
    def free(self) -> int:
        """The number of slots that no sequence uses."""
        return sum(not slot.busy for slot in self._slots)

    @property
    def kept_positions(self) -> int:
        """Positions of finished sequences that are kept for reuse."""
        return sum(len(slot.tokens) for slot in self._slots if not slot.busy)

    def take(self, key: CacheKey, tokens: Sequence[int], *, reuse: bool = True) -> tuple[Slot, int]:
        """A slot for `tokens`, and how many of them it already holds.

        Never all of them, since the last one is computed for its logits; none without `reuse`. A slot must be free.
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

    def release(self, slot: Slot) -> None:
        """Ends a sequence; its keys and values stay for reuse."""
        slot.busy = False
        self._tick += 1
        slot.used_at = self._tick
        if not self._reusable:
            self._clear(slot)

    def discard(self, slot: Slot) -> None:
        """Ends a sequence whose keys and values cannot be trusted."""
        slot.busy = False
        self._clear(slot)

    def evict(self, positions: int) -> None:
        """Empties kept slots, least recently used first, until `positions` are free."""
        kept = sorted((slot for slot in self._slots if not slot.busy and slot.tokens), key=lambda slot: slot.used_at)
        for slot in kept:
            if positions <= 0:
                return
            positions -= len(slot.tokens)
            self._clear(slot)

    def _best(self, key: CacheKey, tokens: Sequence[int], slots: Iterable[Slot]) -> tuple[Slot | None, int]:
        best, longest = None, 0
        for slot in slots:
            if slot.key == key and self._reusable:
                shared = min(common_prefix(slot.tokens, tokens), len(tokens) - 1)
                if shared > longest:
                    best, longest = slot, shared
        return best, longest

    def _occupy(self, slot: Slot, key: CacheKey, tokens: Sequence[int]) -> Slot:
        slot.key, slot.tokens, slot.busy = key, [*tokens], True
        return slot

    def _clear(self, slot: Slot) -> None:
        slot.key, slot.tokens = None, []
        self._storage.clear(slot.number)
