"""Memory by the page: returned to the system early, and touched late."""

import ctypes
import math
import mmap
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def release_pages(tensor: "Tensor | NDArray[numpy.generic]") -> None:
    """Frees the pages of a contiguous tensor whose values are not needed.

    They then read as zeros, or as before: a tensor of a file is read again.

    Only whole pages, since the others hold a neighbour's values too. Does nothing on systems other than Linux.
    """
    if sys.platform == "linux":
        _advise(tensor, mmap.MADV_DONTNEED)


def trim_heap() -> None:
    """Returns freed memory that the C library keeps to the system."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # glibc's
        trim(0)


def evict_pages(tensor: "Tensor | NDArray[numpy.generic]") -> None:
    """Evicts the pages of a contiguous view of a file, until they are read again.

    Unlike `release_pages` it never loses values: a tensor in other memory stays as it is.
    """
    if is_of_file(tensor):
        _advise(tensor, mmap.MADV_DONTNEED)


def is_of_file(tensor: "Tensor | NDArray[numpy.generic]") -> bool:
    """Whether a tensor is a view of a mapped file.

    Its values are not lost with its pages. False on systems other than Linux.
    """
    if sys.platform != "linux":
        return False
    address = _address(tensor)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *_ = line.split(maxsplit=5)
        first, end = (int(side, 16) for side in span.split("-"))
        if first <= address < end:
            return inode != "0"
    return False


def fresh_zeros(shape: tuple[int, ...], *, huge: bool = False) -> "Tensor":
    """Float32 zeros that take memory only where they are written to.

    They come from the system and not from the C library, which may reuse memory and then has to clear it: 0.6 s for the
    keys and values of a small model, in the middle of an answer. `huge`: in pages of 2 MB, which is not for
    tensors of which a little is written here and there.
    """
    import torch

    return torch.from_numpy(fresh_array(shape, huge=huge))


def fresh_array(shape: tuple[int, ...], *, huge: bool = False) -> NDArray[numpy.float32]:
    """As `fresh_zeros`, without torch."""
    return _mapped(4 * math.prod(shape), huge=huge).view(numpy.float32).reshape(shape)


class Slab:
    """One piece of memory for many tensors, freed with the last of them."""

    def __init__(self, memory: "Tensor") -> None:
        """`memory`: bytes [n]."""
        self._memory = memory
        self._used = 0

    def take(self, shape: tuple[int, ...], dtype: "torch.dtype") -> "Tensor":
        """A tensor from the next free bytes; `slab_bytes` says how many it takes."""
        end = self._used + dtype.itemsize * math.prod(shape)
        tensor = self._memory[self._used : end].view(dtype).view(shape)
        self._used = slab_bytes(end)
        return tensor


class ArraySlab:
    """As `Slab`, for arrays."""

    def __init__(self, memory: NDArray[numpy.uint8]) -> None:
        self._memory = memory
        self._used = 0

    def take(self, shape: tuple[int, ...], kind: "numpy.dtype[numpy.generic]") -> "NDArray[numpy.generic]":
        """An array from the next free bytes; `slab_bytes` says how many it takes."""
        end = self._used + kind.itemsize * math.prod(shape)
        array = self._memory[self._used : end].view(kind).reshape(shape)
        self._used = slab_bytes(end)
        return array


def fresh_slab(size: int) -> ArraySlab:
    """A slab of `size` zero bytes on huge pages.

    20 MB in small pages are 5,000 of them, and a virtual machine may wait 10 us for each.
    """
    return ArraySlab(_mapped(size, huge=True))


class SpareSlab:
    """Makes the next slab ahead of time: most adapters of a base have one size."""

    def __init__(self) -> None:
        self._made: dict[int, NDArray[numpy.uint8]] = {}
        self._maker: Thread | None = None

    def take(self, size: int) -> ArraySlab:
        """A slab of `size` zero bytes. To be called from one thread only."""
        if self._maker is not None:
            self._maker.join()
        memory = self._made.pop(size, None)
        if memory is None:
            memory = _mapped(size, huge=True)
        self._made.clear()  # of another size than expected
        self._maker = Thread(target=self._make, args=(size,), daemon=True)
        self._maker.start()
        return ArraySlab(memory)

    def _make(self, size: int) -> None:
        memory = _mapped(size, huge=True)
        _touch(memory.ctypes.data, size)
        self._made[size] = memory


def slab_bytes(size: int) -> int:
    """The bytes that a tensor of `size` bytes takes in a slab: whole cache lines."""
    return -(-size // 64) * 64


def _mapped(size: int, *, huge: bool) -> NDArray[numpy.uint8]:
    """Zeros of one byte, straight from the system."""
    if sys.platform != "linux":
        return numpy.zeros(size, numpy.uint8)
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    return numpy.frombuffer(memory, numpy.uint8)[:size]  # keeps the mapping alive


class Reserve:
    """Memory that a thread requests from the system before it is needed.

    `release` leaves it to what needs it.

    For a process whose C library keeps freed memory (`train/protocol/environment.py`). A virtual machine may wait for
    every page: a gigabyte took 0.15 s where another process had just freed it, and 1.4 s on two cores where none had.
    """

    def __init__(self, size: int) -> None:
        import torch

        self._tensor: Tensor | None = torch.empty(size, dtype=torch.uint8)
        # The thread holds the tensor: it must outlive this object while it is being written.
        self._thread = Thread(target=_touch_tensor, args=(self._tensor,), daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Waits until all of it has been allocated, and frees it."""
        self._thread.join()
        self._tensor = None


def _touch_tensor(tensor: "Tensor") -> None:
    _touch(tensor.data_ptr(), tensor.nbytes)


def _touch(address: int, size: int) -> None:
    ctypes.memset(address, 0, size)  # other Python threads run meanwhile


def _address(tensor: "Tensor | NDArray[numpy.generic]") -> int:
    return tensor.ctypes.data if isinstance(tensor, numpy.ndarray) else tensor.data_ptr()


def _advise(tensor: "Tensor | NDArray[numpy.generic]", advice: int) -> None:
    address = _address(tensor)
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (address + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice)
