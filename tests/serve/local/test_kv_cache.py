"""Keys and values by slot: they outlast growth, copies share nothing, and cleared slots give memory back."""

import sys
from pathlib import Path

import pytest

from tunesmith.serve.local.kv_cache import FEW, ROOM, KeyValues

LAYERS, KV_HEADS, HEAD = 2, 3, 20  # a head of two panels, the second partly used


def write(cache: KeyValues, slot: int, start: int, end: int) -> None:
    """A number of its own for each position of each slot, where the kernels would write it."""
    cache.hold(slot, end)
    for layer in range(LAYERS):
        for position in range(start, end):
            value = 1e4 * layer + 1e5 * slot + position + 1
            cache.keys[layer][slot, :, position // 16, :, position % 16] = value
            cache.values[layer][slot, :, :, position] = value


def positions(cache: KeyValues, slot: int, layer: int, end: int) -> list[float]:
    """The numbers of the first positions; the keys' and the values' are the same."""
    keys = [cache.keys[layer][slot, :, place // 16, :, place % 16] for place in range(end)]
    values = [cache.values[layer][slot, :, :, place] for place in range(end)]
    for key, value in zip(keys, values, strict=True):
        assert len({*key.flatten().tolist(), *value.flatten().tolist()}) == 1
    return [float(key.flatten()[0]) for key in keys]


def expected(slot: int, layer: int, end: int) -> list[float]:
    return [1e4 * layer + 1e5 * slot + position + 1 for position in range(end)]


@pytest.fixture
def cache() -> KeyValues:
    return KeyValues(LAYERS, KV_HEADS, HEAD)


def test_tensors_are_laid_out_in_panels_of_16(cache: KeyValues) -> None:
    assert cache.hold(0, 1)
    assert cache.room == ROOM
    assert [tuple(array.shape) for array in cache.keys] == [(FEW, KV_HEADS, ROOM // 16, HEAD, 16)] * LAYERS
    assert [tuple(array.shape) for array in cache.values] == [(FEW, KV_HEADS, 2, ROOM, 16)] * LAYERS


def test_nothing_is_replaced_while_there_is_room(cache: KeyValues) -> None:
    cache.hold(0, 1)
    before = [array.ctypes.data for array in (*cache.keys, *cache.values)]
    assert not cache.hold(FEW - 1, ROOM)
    assert [array.ctypes.data for array in (*cache.keys, *cache.values)] == before


@pytest.mark.parametrize(("slot", "end"), [(FEW, 1), (3 * FEW, 1), (1, ROOM + 1), (FEW, 3 * ROOM)], ids=str)
def test_what_was_written_outlasts_growth(cache: KeyValues, slot: int, end: int) -> None:
    write(cache, 0, 0, 37)
    write(cache, 2, 0, 16)
    assert cache.hold(slot, end)
    assert cache.room >= end
    assert len(cache.keys[0]) > slot
    for layer in range(LAYERS):
        assert positions(cache, 0, layer, 37) == expected(0, layer, 37)
        assert positions(cache, 2, layer, 16) == expected(2, layer, 16)


def test_a_copy_has_the_first_positions_and_a_life_of_its_own(cache: KeyValues) -> None:
    write(cache, 0, 0, 50)
    assert not cache.copy(0, 1, 37)
    write(cache, 0, 0, 50)
    cache.values[0][0, :, :, 3] = -1.0
    cache.keys[0][0, :, 0, :, 3] = -1.0
    for layer in range(LAYERS):
        assert positions(cache, 1, layer, 37) == expected(0, layer, 37)
    assert not cache.values[0][1, :, :, 37:].any()


def test_a_copy_makes_the_slot_it_goes_to(cache: KeyValues) -> None:
    write(cache, 0, 0, 20)
    assert cache.copy(0, FEW + 1, 20)
    assert positions(cache, FEW + 1, 1, 20) == expected(0, 1, 20)


def test_a_cleared_slot_leaves_its_neighbours_and_can_be_used_again(cache: KeyValues) -> None:
    for slot in range(3):
        write(cache, slot, 0, 33)
    cache.clear(1)
    cache.clear(1)
    cache.clear(99)
    for slot in (0, 2):
        assert positions(cache, slot, 1, 33) == expected(slot, 1, 33)
    write(cache, 1, 0, 33)
    assert positions(cache, 1, 0, 33) == expected(1, 0, 33)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cleared_slot_takes_no_memory() -> None:
    cache = KeyValues(layers=2, kv_heads=4, head_size=64)
    cache.hold(0, 8192)
    for array in (*cache.keys, *cache.values):
        array[0].fill(1.0)
    before = resident()
    cache.clear(0)
    assert before - resident() > 30 << 20  # of 32 MiB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_room_that_nobody_wrote_to_takes_no_memory() -> None:
    before = resident()
    cache = KeyValues(layers=8, kv_heads=8, head_size=64)
    cache.hold(15, 8192)
    assert sum(array.nbytes for array in (*cache.keys, *cache.values)) == 8 << 29
    assert resident() - before < 64 << 20


def resident() -> int:
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def test_zeros_stand_where_nothing_was_written(cache: KeyValues) -> None:
    """Columns that fill up a panel are computed with: NaN there would spread."""
    cache.hold(0, 5)
    assert all(not array.any() for array in (*cache.keys, *cache.values))
