"""Memory asked for ahead of its use."""

import sys
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.system.pages import Reserve, SpareSlab, evict_pages, fresh_slab, is_of_file, slab_bytes, trim_heap

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
    reserve.release()
    assert reserve._tensor is None


def test_a_reserve_of_nothing_ends_at_once() -> None:
    reserve = Reserve(0)
    assert reserve._tensor is not None
    assert reserve._tensor.nbytes == 0
    reserve.release()
    assert reserve._tensor is None
    assert not reserve._thread.is_alive()


def test_slabs_of_any_order_of_sizes_are_zeros_of_their_own() -> None:
    memory, kept = SpareSlab(), []
    for number, size in enumerate((4096, 4096, 256, 256, 8192), 1):
        slab = memory.take(size)
        halves = [slab.take((size // 8,), numpy.dtype(numpy.float32)) for _ in range(2)]
        assert not any(half.any() for half in halves)
        for half in halves:
            half.fill(number)
        kept.append(halves)
    assert all((half == number).all() for number, halves in enumerate(kept, 1) for half in halves)


def test_places_in_a_slab_begin_on_cache_lines() -> None:
    slab = fresh_slab(3 * slab_bytes(100))
    places = [slab.take((100,), numpy.dtype(numpy.uint8)).ctypes.data for _ in range(3)]
    assert [place - places[0] for place in places] == [0, 128, 256]
    assert places[0] % 64 == 0


def test_a_forgotten_tensor_of_a_file_takes_no_memory_and_reads_as_before(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(16 * MB // 4)}, file)
    mapped = load_file(file)["weight"]
    assert float(mapped.sum()) == mapped.numel()
    assert is_of_file(mapped) == (sys.platform == "linux")
    before = resident()
    evict_pages(mapped)
    if sys.platform == "linux":
        assert before - resident() > 12 * MB
    assert float(mapped.sum()) == mapped.numel()


def test_forgetting_loses_nothing_of_a_tensor_that_is_of_no_file() -> None:
    weight = torch.ones(4 * MB)
    assert not is_of_file(weight)
    evict_pages(weight)
    assert bool((weight == 1).all())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_goes_back_though_what_follows_it_is_in_use() -> None:
    blocks = [torch.ones(20_000) for _ in range(800)]
    last = blocks.pop()
    blocks.clear()
    before = resident()
    trim_heap()
    assert before - resident() > 40 * MB
    assert bool((last == 1).all())
