"""Memory by the page: given back to the system where torch would keep it, and touched no more than needed."""

import ctypes
import mmap
import sys
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


def _advise(tensor: "Tensor", advice: int) -> None:
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (tensor.data_ptr() + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice)
