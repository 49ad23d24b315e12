"""All weights of a model as trainable parameters, in one flat fp32 tensor.

Tied weights (the embedding that is also the output head) are one parameter, and stay so on disk.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from tunesmith.errors import ServerFault
from tunesmith.families.peft_names import A_SUFFIX, PREFIX, lora_b_name, own_path
from tunesmith.models.adapters import AdapterManifest, load_tensors, read_manifest
from tunesmith.models.tuned import write_model
from tunesmith.models.weights import load_model
from tunesmith.train.adapters.flat import FlatParameters
from tunesmith.train.adapters.lora import ALIGN

if TYPE_CHECKING:
    from transformers import PreTrainedModel


TensorT = TypeVar("TensorT", bound=Tensor)


def in_flat_order(parameters: Sequence[TensorT]) -> list[TensorT]:
    """The matrices first, since only they have weight decay; otherwise as they are."""
    return sorted(parameters, key=lambda parameter: parameter.dim() < 2)  # sorted() keeps the order


def aligned_size(values: int) -> int:
    """Elements that so many take in `flat`."""
    return -(-values // ALIGN) * ALIGN


class FullFinetuning(FlatParameters):
    """Trains every weight of a model.

    The matrices come first in `flat`: only they have weight decay.
    """

    def __init__(self, model: "PreTrainedModel", base_dir: Path) -> None:
        self.model, self._base_dir = model, base_dir
        model.requires_grad_(True)
        self._named = dict(model.named_parameters())
        parameters = in_flat_order([*model.parameters()])
        sizes = [aligned_size(parameter.numel()) for parameter in parameters]
        dtype = torch.promote_types(parameters[0].dtype, torch.float32)
        self.flat = nn.Parameter(torch.zeros(sum(sizes), dtype=dtype, device=parameters[0].device))
        self.grad = torch.zeros_like(self.flat)
        self.flat.grad = self.grad
        self.parameter_count = sum(parameter.numel() for parameter in parameters)
        self._matrices: int = sum(size for p, size in zip(parameters, sizes, strict=True) if p.dim() >= 2)
        offset = 0
        for parameter, size in zip(parameters, sizes, strict=True):
            here, shape = slice(offset, offset + parameter.numel()), parameter.shape
            self.flat.data[here].copy_(parameter.data.flatten())
            parameter.data = self.flat.data[here].view(shape)
            parameter.grad = self.grad[here].view(shape)
            offset += size

    @property
    def matrices(self) -> int:
        """See `TrainableParameters`."""
        return self._matrices

    @property
    def description(self) -> str:
        """See `TrainableParameters`."""
        return f"All {self.parameter_count:,} weights are trained"

    def write(self, directory: Path, manifest: AdapterManifest) -> None:
        """See `TrainableParameters`."""
        write_model(directory, self.model, self._base_dir, manifest)

    def restore(self, directory: Path | None) -> None:
        """See `TrainableParameters`."""
        if directory is None:
            return
        for name, written in load_model(directory, self.flat.dtype).named_parameters():
            self._named[name].data.copy_(written.data)

    def merge(self, adapter_dir: Path) -> None:
        """Adds the LoRA in `adapter_dir` to the weights, to go on from that tuned model."""
        for layer, b, a, scale in updates_of(self.model, adapter_dir):
            add_update(layer, b, a, scale)


def updates_of(model: nn.Module, adapter_dir: Path) -> Iterator[tuple[nn.Module, Tensor, Tensor, float]]:
    """The layers that the LoRA in a directory changes, with B, A and their scale."""
    manifest, tensors = read_manifest(adapter_dir), load_tensors(adapter_dir)
    for name, a in tensors.items():
        path, found, _ = name.removeprefix(PREFIX).partition(A_SUFFIX)
        if found:
            yield (
                _layer(model, path, tensors[lora_b_name(path)], a),
                tensors[lora_b_name(path)],
                a,
                manifest.alpha / manifest.rank,
            )


def add_update(layer: nn.Module, b: Tensor, a: Tensor, scale: float) -> None:
    """Adds a LoRA's product to the weight of `layer`."""
    weight = cast(Tensor, layer.weight).data
    weight.add_((b @ a).to(weight), alpha=scale)


def _layer(model: nn.Module, path: str, b: Tensor, a: Tensor) -> nn.Module:
    layer = model.get_submodule(own_path(path))
    if cast(Tensor, layer.weight).shape != (b.shape[0], a.shape[1]):
        raise ServerFault(f"The adapter to start from does not fit this base: {path} has another size.")
    return layer
