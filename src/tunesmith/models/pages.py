"""Memory by the page: given back to the system where torch would keep it, and touched no more than needed."""

import ctypes
import mmap
import sys
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def give_back(tensor: "Tensor") -> None:
    """The pages of a contiguous tensor whose values nobody needs any more: they read as zeros, or as before.

    Whole pages only: the others hold a neighbour's values too. Does nothing elsewhere than on Linux.
    """
    if sys.platform == "linux":
        _advise(tensor, mmap.MADV_DONTNEED)


def small_pages(tensor: "Tensor") -> None:
    """For a tensor of which little is written to, here and there: a huge page would take 2 MB for each place."""
    if sys.platform == "linux":
        _advise(tensor, mmap.MADV_NOHUGEPAGE)


class Reserve:
    """Memory that a thread asks the system for while this process does something else; `leave` it to what needs it.

    For a process whose C library keeps what is freed (`train/environment.py`). A virtual machine may wait for every
    page: a gigabyte took 0.15 s where another process had just freed it, 1.4 s on two cores where none had.
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
