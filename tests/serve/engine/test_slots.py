from pathlib import Path

import pytest

from tunesmith.serve.engine.slots import CacheKey, Slots

KEY: CacheKey = ("project", None)


class Tensors:
    """Notes what is copied and cleared."""

    def __init__(self) -> None:
        self.copies: list[tuple[int, int, int]] = []
        self.cleared: list[int] = []

    def copy(self, source: int, target: int, length: int) -> None:
        self.copies.append((source, target, length))

    def clear(self, slot: int) -> None:
        self.cleared.append(slot)


@pytest.fixture
def tensors() -> Tensors:
    return Tensors()


def ended(slots: Slots, tokens: list[int], key: CacheKey = KEY) -> int:
    """A sequence came, was computed whole, and ended: the number of its slot."""
    slot, shared = slots.take(key, tokens)
    slot.tokens.extend(tokens[shared:])
    slots.release(slot)
    return slot.number


def test_the_next_turn_of_a_conversation_takes_its_slot_over(tensors: Tensors) -> None:
    slots = Slots(3, tensors)
    number = ended(slots, [*range(40)])
    slot, shared = slots.take(KEY, [*range(50)])
    assert (slot.number, shared) == (number, 40)
    assert not tensors.copies


def test_the_last_token_is_always_computed(tensors: Tensors) -> None:
    slots = Slots(1, tensors)
    ended(slots, [*range(40)])
    assert slots.take(KEY, [*range(40)])[1] == 39


def test_a_shared_prefix_of_a_running_sequence_is_copied(tensors: Tensors) -> None:
    slots = Slots(3, tensors)
    first, _ = slots.take(KEY, [*range(60)])
    first.tokens.extend(range(60))
    second, shared = slots.take(KEY, [*range(50), 7, 8])
    assert shared == 50
    assert tensors.copies == [(first.number, second.number, 50)]


def test_a_short_shared_prefix_leaves_a_long_conversation_alone_while_there_is_room(tensors: Tensors) -> None:
    slots = Slots(2, tensors)
    number = ended(slots, [*range(100)])
    other, shared = slots.take(KEY, [*range(30), 7, 7])
    assert other.number != number
    assert (shared, tensors.copies) == (30, [(number, other.number, 30)])
    slots.release(other)
    assert slots.take(KEY, [*range(101)])[1] == 100


@pytest.mark.parametrize("key", [("another", None), ("project", Path("adapter"))])
def test_another_project_or_adapter_never_sees_the_tokens(key: CacheKey, tensors: Tensors) -> None:
    slots = Slots(2, tensors)
    ended(slots, [*range(40)])
    assert slots.take(key, [*range(40)])[1] == 0
    assert not tensors.copies


def test_the_least_recently_used_slot_is_taken_when_none_is_empty(tensors: Tensors) -> None:
    slots = Slots(2, tensors)
    oldest, newest = ended(slots, [*range(100, 140)]), ended(slots, [*range(200, 240)])
    assert slots.take(KEY, [*range(40)])[0].number == oldest != newest


def test_forgetting_gives_memory_back_least_recently_used_first(tensors: Tensors) -> None:
    slots = Slots(3, tensors)
    numbers = [ended(slots, [*range(start, start + 40)]) for start in (0, 100, 200)]
    slots.evict(41)
    assert tensors.cleared == numbers[:2]
    assert slots.kept_positions == 40


def test_a_cache_that_cannot_be_cut_is_never_used_again(tensors: Tensors) -> None:
    slots = Slots(2, tensors, reusable=False)
    number = ended(slots, [*range(40)])
    assert tensors.cleared == [number]
    assert slots.take(KEY, [*range(50)])[1] == 0
