"""Loading the base of a run with its trainable parameters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tunesmith.errors import InvalidRequest
from tunesmith.families.panels import DTYPES
from tunesmith.models.adapters import MANIFEST_FILE, load_tensors
from tunesmith.models.facts import count_text_parameters
from tunesmith.models.options_check import required_memory
from tunesmith.models.weights import load_as_stored, load_model
from tunesmith.train.adapters.checkpoint import TrainableParameters
from tunesmith.train.adapters.full_finetuning import FullFinetuning
from tunesmith.train.adapters.lora import attach
from tunesmith.train.core.device import Device
from tunesmith.train.layers.wide_modules import widen_vectors
from tunesmith.train.paths.choose_stack import width_in_memory
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import ONE_RANK, Ranks
from tunesmith.train.sharding.choice import is_sharded, require_share

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """A base model with its trainable parameters in place.

    `sharded`: this rank has a part of each weight, of the base's too.
    """

    model: "PreTrainedModel"
    trainable: TrainableParameters
    sharded: bool = False

    @property
    def computes(self) -> torch.dtype:
        """What its layers compute in.

        On a CPU float32 at least, also where weights are kept in 16 bits.
        """
        dtype = self.model.dtype
        return torch.promote_types(dtype, torch.float32) if self.model.device.type == "cpu" else dtype


def load_base(spec: TrainSpec, device: Device, ranks: Ranks = ONE_RANK) -> LoadedBase:
    """Loads the spec's base, and the tuned model that the job continues.

    Raises InvalidRequest where the memory is too small, or the tuned model does not fit the spec.
    """
    if not is_sharded(spec, device, ranks):
        return _with_adapter(spec, device) if spec.options.adapter == "lora" else _full(spec, device)
    require_share(spec, device, ranks)
    from tunesmith.train.sharding.load import load_sharded, load_sharded_weights  # a second of imports

    if spec.options.adapter == "lora":
        return _attached(spec, load_sharded(spec, device, ranks), sharded=True)
    weights = load_sharded_weights(spec, device, ranks)
    return LoadedBase(weights.model, weights, sharded=True)


def _with_adapter(spec: TrainSpec, device: Device) -> LoadedBase:
    if device.is_gpu and spec.options.quantization == "none":
        _check_weights(spec, device)
    if device.dtype == torch.float32 and not device.is_gpu and spec.options.quantization != "nf4":
        model = load_as_stored(spec.base_dir, DTYPES[width_in_memory(spec)])
        widen_vectors(model)
    else:
        model = load_model(spec.base_dir, device.dtype, device.name, spec.options.quantization)
    return _attached(spec, model)


def _attached(spec: TrainSpec, model: "PreTrainedModel", *, sharded: bool = False) -> LoadedBase:
    adapter = attach(model, spec.options, spec.seed, model.get_output_embeddings())
    if spec.init_adapter_dir:
        adapter.load(load_tensors(spec.init_adapter_dir))
    if (spec.base_dir / MANIFEST_FILE).is_file():
        adapter.own_base = spec.base_dir
    return LoadedBase(model, adapter, sharded)


def _check_weights(spec: TrainSpec, device: Device) -> None:
    """A CPU maps the file; a GPU has to hold the weights."""
    parameters, free = count_text_parameters(spec.base_dir), device.free_memory()
    needed = device.dtype.itemsize * parameters
    if needed > free:
        raise InvalidRequest(
            f"The {parameters:,} weights of the base take {needed / 1e9:.1f} GB on {device.name}, where "
            f"{free / 1e9:.1f} GB are free. Take a smaller base, another device (train_device), or free memory.",
            param="model",
            code="out_of_memory",
        )


def _full(spec: TrainSpec, device: Device) -> LoadedBase:
    parameters, free = count_text_parameters(spec.base_dir), device.free_memory()
    needed = required_memory(parameters)
    if needed > free:  # told by the files' headers, before anything is loaded
        raise InvalidRequest(
            f"Training all {parameters:,} weights takes {needed / 1e9:.1f} GB for them, their gradients "
            f"and the optimizer, without activations; {free / 1e9:.1f} GB are free. Train a LoRA ('adapter': 'lora'), "
            "take a smaller base, or free memory.",
            param="tunesmith.adapter",
            code="out_of_memory",
        )
    full = FullFinetuning(load_model(spec.base_dir, device.dtype, device.name), spec.base_dir)
    if spec.init_adapter_dir:
        full.merge(spec.init_adapter_dir)
    return LoadedBase(full.model, full)
