"""The device of a run, and the number format of its base.

    CPU                                    float32
    GPU, compute capability 8.0 and above  bfloat16; all weights: float32, products in TF32
    older GPU                              float32

The CPU alone has been measured. What is below for GPUs is tested with fake tensors, and has not been run on one.
"""

import gc
from dataclasses import dataclass, replace

import torch

from tunesmith.errors import InvalidRequest
from tunesmith.system.cpu import cpu_count
from tunesmith.system.memory import free_memory, peak_resident
from tunesmith.train.ranks.place import ALONE, Place

BF16_CAPABILITY = (8, 0)  # Ampere: before it bfloat16 is emulated, and there is no TF32


@dataclass(frozen=True, slots=True)
class Device:
    """A device and the type of the frozen base on it."""

    name: str  # as torch calls it: cpu, cuda:1
    dtype: torch.dtype  # of the base; an adapter is kept in fp32
    tf32: bool = False  # products of float32 matrices are made of their first 11 bits
    reason: str = ""  # why `dtype` is not the one that is expected of a GPU
    sharers: int = 1  # ranks that share this machine's processors and memory

    @classmethod
    def best(cls) -> "Device":
        """The fastest device of this machine, for a LoRA."""
        return cls.chosen("auto")

    @classmethod
    def chosen(cls, wanted: str, place: Place = ALONE, *, all_weights: bool = False) -> "Device":
        """The device called `wanted`: auto, cpu, cuda or cuda:N.

        Of several ranks on a machine each has its own GPU. Raises InvalidRequest where there is none.
        """
        if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
            return cls("cpu", torch.float32, sharers=place.local_size)
        index = _card(wanted) if place.local_size == 1 else _card_of_rank(wanted, place)
        device = of_gpu(index, torch.cuda.get_device_capability(index), all_weights=all_weights)
        return replace(device, sharers=place.local_size)

    @property
    def is_gpu(self) -> bool:
        """Whether it is not the processor."""
        return self.name != "cpu"

    def use(self) -> None:
        """Makes it the one that torch means by "cuda", and sets how its products are made."""
        if self.is_gpu:
            torch.cuda.set_device(self.name)
            torch.set_float32_matmul_precision("high" if self.tf32 else "highest")

    def free_memory(self) -> int:
        """How many bytes are free for weights and activations.

        What torch keeps of a GPU and does not use is free.
        """
        if not self.is_gpu:
            return free_memory() // self.sharers
        kept = torch.cuda.memory_reserved(self.name) - torch.cuda.memory_allocated(self.name)
        return int(torch.cuda.mem_get_info(self.name)[0]) + kept


def of_gpu(index: int, capability: tuple[int, int], *, all_weights: bool) -> Device:
    """What is computed in on a GPU of this compute capability."""
    name, recent = f"cuda:{index}", capability >= BF16_CAPABILITY
    if all_weights:
        return Device(name, torch.float32, tf32=recent)
    if recent:
        return Device(name, torch.bfloat16)
    reason = (
        f"The base is in float32: bfloat16 needs a GPU of compute capability 8.0, this one has {capability[0]}."
        f"{capability[1]}, and in float16 small gradients would be zero."
    )
    return Device(name, torch.float32, reason=reason)


def _card(wanted: str) -> int:
    """The number of the GPU called auto, cuda or cuda:N."""
    _require_gpu(wanted)
    _, numbered, number = wanted.partition(":")
    index, count = int(number) if numbered else torch.cuda.current_device(), torch.cuda.device_count()
    if index >= count:
        there = ", ".join(f"cuda:{one}" for one in range(count))
        raise InvalidRequest(
            f"train_device is {wanted!r}; this machine has {there}.", param="train_device", code="device_not_available"
        )
    return index


def _card_of_rank(wanted: str, place: Place) -> int:
    """The number of this rank's own GPU."""
    _require_gpu(wanted)
    if ":" in wanted:
        raise InvalidRequest(
            f"train_device is {wanted!r}, one GPU for the {place.local_size} ranks of this machine. Set it to 'cuda', "
            "and each rank takes its own; CUDA_VISIBLE_DEVICES says which they choose from.",
            param="train_device",
            code="invalid_rank",
        )
    if place.local_size > torch.cuda.device_count():
        raise InvalidRequest(
            f"{place.local_size} ranks were started on a machine of {torch.cuda.device_count()} GPUs: start at "
            "most one for each (torchrun's --nproc-per-node).",
            code="invalid_rank",
        )
    return place.local_rank


def _require_gpu(wanted: str) -> None:
    if not torch.cuda.is_available():
        raise InvalidRequest(
            f"train_device is {wanted!r}, but PyTorch finds no GPU that it can use here. Set it to 'cpu' or 'auto', or "
            "install PyTorch for CUDA and the GPU's driver.",
            param="train_device",
            code="device_not_available",
        )


def use_threads(wanted: int, sharers: int = 1) -> None:
    """Sets the number of torch's threads to a share of `wanted`.

    0: of all processors that this process may use.
    """
    torch.set_num_threads(max(1, (wanted or cpu_count()) // sharers))


def peak_memory(device: torch.device | None = None) -> int:
    """The most memory held so far, bytes.

    Of the GPU `device`, else this process's resident size.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident()


def free_unused() -> None:
    """Gives up what nobody holds any more, also what torch keeps of a GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
