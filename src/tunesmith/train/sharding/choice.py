"""Whether a run's weights are shared out among its ranks."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from tunesmith.errors import InvalidRequest
from tunesmith.models.facts import count_text_parameters
from tunesmith.models.options_check import required_memory
from tunesmith.settings import Sharding
from tunesmith.train.core.device import Device
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import Ranks

_Found = TypeAdapter(list[tuple[Sharding, bool]])


@dataclass(frozen=True, slots=True)
class Demand:
    """Bytes that a run's weights take on a rank with all of them, and the free ones."""

    parameters: int
    needed: int
    free: int

    @classmethod
    def of(cls, spec: TrainSpec, device: Device) -> "Demand":
        """With gradients and moments where all weights are trained; no activations."""
        parameters = count_text_parameters(spec.base_dir)
        needed = required_memory(parameters) if spec.options.adapter == "none" else device.dtype.itemsize * parameters
        return cls(parameters, needed, device.free_memory())


def is_sharded(spec: TrainSpec, device: Device, ranks: Ranks) -> bool:
    """Whether the weights are shared out; the same on all ranks.

    Rank 0's setting holds, and "auto" means where one of them has too little memory. Raises InvalidRequest for a
    quantized base that has to be sharded.
    """
    if ranks.size == 1:
        return False
    quantized = spec.options.quantization != "none"
    if quantized and spec.sharding == "full":
        raise InvalidRequest(
            f"train_sharding is 'full', but a quantized base (quantization {spec.options.quantization!r}) cannot be "
            "shared out among ranks. Set train_sharding to 'auto', or leave 'quantization' out.",
            param="tunesmith.quantization",
            code="sharding_not_available",
        )
    found = _Found.validate_python(ranks.of_all([spec.sharding, not quantized and _is_short(spec, device)]))
    wanted = found[0][0]
    return wanted == "full" or (wanted == "auto" and any(short for _, short in found))


def require_share(spec: TrainSpec, device: Device, ranks: Ranks) -> None:
    """Raises InvalidRequest where even this rank's part is more than is free."""
    demand = Demand.of(spec, device)
    share = demand.needed / ranks.size
    if share > demand.free:
        raise InvalidRequest(
            f"Each of {ranks.size} ranks takes {share / 1e9:.1f} GB as its part of the {demand.parameters:,} weights "
            f"and what belongs to them, without activations; {demand.free / 1e9:.1f} GB are free on {device.name}. "
            "Start more ranks, take a smaller base, or free memory.",
            param="model",
            code="out_of_memory",
        )


def _is_short(spec: TrainSpec, device: Device) -> bool:
    """A CPU maps a frozen base's file, whose pages its ranks have in common: parts of it would take more."""
    if spec.options.adapter == "lora" and not device.is_gpu:
        return False
    demand = Demand.of(spec, device)
    return demand.needed > demand.free
