"""The device of a run: CUDA in bf16 where there is a GPU, else the CPU in fp32.

Only the CPU path has been measured; the other is written with the same operations and has not been run by us.
"""

import resource
import sys
from dataclasses import dataclass

import torch

from tunesmith.system.cpu import cpu_count
from tunesmith.system.memory import free_memory


@dataclass(frozen=True, slots=True)
class Device:
    """A device and the type of the frozen base on it."""

    name: str  # as torch calls it
    dtype: torch.dtype  # of the frozen base; the adapter is kept in fp32

    @classmethod
    def best(cls) -> "Device":
        """The fastest device of this machine."""
        if torch.cuda.is_available():
            return cls("cuda", torch.bfloat16)
        return cls("cpu", torch.float32)

    def free_memory(self) -> int:
        """How many bytes are free for activations."""
        return int(torch.cuda.mem_get_info()[0]) if self.name == "cuda" else free_memory()


def use_threads(wanted: int) -> None:
    """Sets the number of torch's threads; 0: all processors this process may use."""
    torch.set_num_threads(wanted or cpu_count())


def peak_memory() -> int:
    """The most memory held so far, bytes.

    The accelerator's where there is one, else this process's resident size.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # Linux counts in KiB
