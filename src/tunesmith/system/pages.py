"""Memory by the page: given back to the system where torch would keep it, and touched no more than needed."""

import ctypes
import math
import mmap
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def give_back(tensor: "Tensor") -> None:
    """The pages of a contiguous tensor whose values nobody needs any more: they read as zeros, or as before.

    Whole pages only: the others hold a neighbour's values too. Does nothing elsewhere than on Linux.
    """
    if sys.platform == "linux":
        _advise(tensor, mmap.MADV_DONTNEED)


def give_back_free() -> None:
    """What the C library keeps of memory that was freed, for a process that has just let go of a lot."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # glibc's
        trim(0)


def forget(tensor: "Tensor") -> None:
    """Where a contiguous tensor is a view of a file, its pages count for this process again only once they are read.

    Unlike `give_back` it loses nothing: other memory stays as it is.
    """
    if sys.platform == "linux" and _is_of_a_file(tensor.data_ptr()):
        _advise(tensor, mmap.MADV_DONTNEED)


def _is_of_a_file(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *_ = line.split(maxsplit=5)
        first, end = (int(side, 16) for side in span.split("-"))
        if first <= address < end:
            return inode != "0"
    return False


def fresh_zeros(shape: tuple[int, ...], *, huge: bool = False) -> "Tensor":
    """Float32 zeros of which only what is written to takes memory.

    From the system and not from the C library, which may take used memory for them and has to clear it then: 0.6 s for
    the keys and values of a small model, in the middle of somebody's answer. `huge`: 2 MB for each place that is
    written to, so not where that is little, here and there.
    """
    import torch

    zeros = _mapped(4 * math.prod(shape), huge=huge)
    return zeros.view(torch.float32).view(shape)


class Slab:
    """One piece of memory for many tensors that stay as long as one of them does."""

    def __init__(self, memory: "Tensor") -> None:
        """`memory`: bytes [n]."""
        self._memory = memory
        self._used = 0

    def take(self, shape: tuple[int, ...], dtype: "torch.dtype") -> "Tensor":
        """The next of it, as long as there is room: see `slab_bytes`."""
        end = self._used + dtype.itemsize * math.prod(shape)
        tensor = self._memory[self._used : end].view(dtype).view(shape)
        self._used = slab_bytes(end)
        return tensor


def fresh_slab(size: int) -> Slab:
    """Zeros on huge pages, of which the system has few to hand out.

    20 MB of small tensors are 5,000 pages, and a virtual machine may wait 10 us for each.
    """
    return Slab(_mapped(size, huge=True))


class SpareSlab:
    """Slabs of which the next is made while nobody waits for it: adapters of one base mostly have one size."""

    def __init__(self) -> None:
        self._made: dict[int, Tensor] = {}
        self._maker: Thread | None = None

    def take(self, size: int) -> Slab:
        """Of zeros. From one thread only."""
        if self._maker is not None:
            self._maker.join()
        memory = self._made.pop(size, None)
        if memory is None:
            memory = _mapped(size, huge=True)
        self._made.clear()  # another size is not what comes next
        self._maker = Thread(target=self._make, args=(size,), daemon=True)
        self._maker.start()
        return Slab(memory)

    def _make(self, size: int) -> None:
        memory = _mapped(size, huge=True)
        _touch(memory)
        self._made[size] = memory


def slab_bytes(size: int) -> int:
    """What a tensor of `size` bytes takes of a slab: whole cache lines."""
    return -(-size // 64) * 64


def _mapped(size: int, *, huge: bool) -> "Tensor":
    """Zeros of one byte, straight from the system."""
    import torch

    if sys.platform != "linux":
        return torch.zeros(size, dtype=torch.uint8)
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)[:size]  # which holds the memory


class Reserve:
    """Memory that a thread asks the system for while this process does something else; `leave` it to what needs it.

    For a process whose C library keeps what is freed (`train/protocol/environment.py`). A virtual machine may wait
    for every page: a gigabyte took 0.15 s where another process had just freed it, 1.4 s on two cores where none had.
    """

    def __init__(self, size: int) -> None:
        import torch

        self._tensor: Tensor | None = torch.empty(size, dtype=torch.uint8)
        # It holds the tensor itself: whoever forgets this object must not free what is still being written.
        self._thread = Thread(target=_touch, args=(self._tensor,), daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Waits until all is there, and frees it."""
        self._thread.join()
        self._tensor = None


def _touch(tensor: "Tensor") -> None:
    ctypes.memset(tensor.data_ptr(), 0, tensor.nbytes)  # which lets Python's other threads run meanwhile


def _advise(tensor: "Tensor", advice: int) -> None:
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (tensor.data_ptr() + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice)
