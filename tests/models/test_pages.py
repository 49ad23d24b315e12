"""Memory asked for ahead of its use."""

import sys
from pathlib import Path

import pytest
import torch

from tunesmith.models.pages import Reserve, SpareSlab, fresh_slab, slab_bytes

MB = 1 << 20


def resident() -> int:
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reserve_is_in_memory_until_it_is_left() -> None:
    before = resident()
    reserve = Reserve(64 * MB)
    reserve._thread.join()
    assert resident() - before > 60 * MB
    reserve.leave()
    assert reserve._tensor is None


def test_a_reserve_of_nothing() -> None:
    Reserve(0).leave()


def test_slabs_of_any_order_of_sizes_are_zeros_of_their_own() -> None:
    memory, kept = SpareSlab(), []
    for number, size in enumerate((4096, 4096, 256, 256, 8192), 1):
        slab = memory.take(size)
        halves = [slab.take((size // 8,), torch.float32) for _ in range(2)]
        assert not any(half.any() for half in halves)
        for half in halves:
            half.fill_(number)
        kept.append(halves)
    assert all((half == number).all() for number, halves in enumerate(kept, 1) for half in halves)


def test_places_in_a_slab_begin_on_cache_lines() -> None:
    slab = fresh_slab(3 * slab_bytes(100))
    places = [slab.take((100,), torch.uint8).data_ptr() for _ in range(3)]
    assert [place - places[0] for place in places] == [0, 128, 256]
    assert places[0] % 64 == 0
