"""The device of a run: CUDA in bf16 where there is a GPU, else the CPU in fp32.

Only the CPU path has been measured; the other is written with the same operations and has not been run by us.
"""

import resource
import sys
from dataclasses import dataclass

import torch

from tunesmith.errors import InvalidRequest
from tunesmith.system.cpu import cpu_count
from tunesmith.system.memory import free_memory
from tunesmith.train.ranks.place import ALONE, Place


@dataclass(frozen=True, slots=True)
class Device:
    """A device and the type of the frozen base on it."""

    name: str  # as torch calls it
    dtype: torch.dtype  # of the frozen base; the adapter is kept in fp32
    sharers: int = 1  # ranks that share this machine's processors and memory

    @classmethod
    def best(cls, place: Place = ALONE) -> "Device":
        """The fastest device of this machine; for each of several ranks its own.

        Raises InvalidRequest where there are more ranks than GPUs.
        """
        if not torch.cuda.is_available():
            return cls("cpu", torch.float32, place.local_size)
        if place.local_size > torch.cuda.device_count():
            raise InvalidRequest(
                f"{place.local_size} ranks were started on a machine of {torch.cuda.device_count()} GPUs: start at "
                "most one for each (torchrun's --nproc-per-node).",
                code="invalid_rank",
            )
        torch.cuda.set_device(place.local_rank)
        return cls("cuda", torch.bfloat16, place.local_size)

    def free_memory(self) -> int:
        """How many bytes are free for activations."""
        return int(torch.cuda.mem_get_info()[0]) if self.name == "cuda" else free_memory() // self.sharers


def use_threads(wanted: int, sharers: int = 1) -> None:
    """Sets the number of torch's threads to a share of `wanted`.

    0: of all processors that this process may use.
    """
    torch.set_num_threads(max(1, (wanted or cpu_count()) // sharers))


def peak_memory() -> int:
    """The most memory held so far, bytes.

    The accelerator's where there is one, else this process's resident size.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # Linux counts in KiB
