"""LoRA adapters on a frozen model, stored under PEFT's names.

Source: Hu et al., 2021, arXiv:2106.09685. All parameters are in one flat tensor, and so are their gradients: the
optimizer, the gradient's norm and a checkpoint are then one operation each instead of one for each of 420 small
matrices.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.errors import InvalidRequest
from tunesmith.families.lora_layers import check_targets, in_blocks, is_target
from tunesmith.families.peft_names import lora_a_name, lora_b_name
from tunesmith.families.text_part import is_plain_linear, stored_path
from tunesmith.models.adapters import AdapterManifest, load_tensors, write_adapter
from tunesmith.models.tuned import link_base
from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.flat import FlatParameters
from tunesmith.train.layers.frozen_weights import FrozenMatrix
from tunesmith.train.layers.fused_functions import SharedInput

ALIGN = 16  # elements: every matrix begins on a cache line, so that sums are the same after a resume


class LoraLinear(nn.Module):
    """A frozen linear layer plus an update of low rank."""

    def __init__(self, base: nn.Linear, options: TrainingOptions) -> None:
        super().__init__()
        self.base = base
        self.matrix = FrozenMatrix(base)
        self.quantized = not base.weight.is_floating_point()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.scale, self.dropout = options.lora_scaling, options.lora_dropout
        self.enabled = True
        device = base.weight.device
        self.lora_a = nn.Parameter(torch.empty(options.lora_rank, base.in_features, device=device))
        self.lora_b = nn.Parameter(torch.empty(base.out_features, options.lora_rank, device=device))

    @property
    def weight(self) -> Tensor:
        """The frozen layer's, whose number format some families ask for."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The frozen layer's."""
        return self.base.bias

    @property
    def is_plain_lora(self) -> bool:
        """Whether `SharedInput` computes it: enabled, no dropout, base not quantized."""
        return self.enabled and not (self.dropout and self.training) and not self.quantized

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if not self.is_plain_lora:
            return self.with_update(x, self.matrix(x))
        a, b = self.lora_a.to(x.dtype), self.lora_b.to(x.dtype)
        flat = x.reshape(-1, self.in_features)
        (y,) = SharedInput.apply(flat, self.scale, (self.matrix,), a.detach(), a, b)  # type: ignore[no-untyped-call]
        return cast(Tensor, y).view(*x.shape[:-1], self.out_features)

    def with_update(self, x: Tensor, y: Tensor) -> Tensor:
        """The output, given the frozen layer's output `y`."""
        if not self.enabled:
            return y
        a, b = self.lora_a.to(x.dtype), self.lora_b.to(x.dtype)
        dropped = nn.functional.dropout(x, self.dropout, self.training)
        return y + nn.functional.linear(nn.functional.linear(dropped, a), b) * self.scale


class Adapter(FlatParameters):
    """The LoRA layers of a model by module path, with their values in one flat tensor."""

    own_base: Path | None = None  # tuned weights that the written adapter needs beside it

    def __init__(self, layers: dict[str, LoraLinear], stored: dict[str, str] | None = None) -> None:
        """`stored`: the layers' paths in files, by their paths here; None: the same."""
        self.layers = layers
        self._stored = stored or {path: path for path in layers}
        self._parameters = [p for layer in layers.values() for p in (layer.lora_a, layer.lora_b)]
        reference = next(iter(layers.values())).base.weight
        dtype = reference.dtype if reference.dtype == torch.float64 else torch.float32
        sizes = [-(-p.numel() // ALIGN) * ALIGN for p in self._parameters]
        # A cache line more: compiled code may read beyond the last row of a matrix of small rank.
        memory = torch.zeros(sum(sizes) + ALIGN, dtype=dtype, device=reference.device)
        self.flat = nn.Parameter(memory[:-ALIGN])
        self.grad = torch.zeros_like(self.flat)
        self.flat.grad = self.grad
        offset = 0
        for parameter, size in zip(self._parameters, sizes, strict=True):
            here = slice(offset, offset + parameter.numel())
            shape = parameter.shape
            parameter.data = self.flat.data[here].view(shape)
            parameter.grad = self.grad[here].view(shape)
            offset += size

    @property
    def description(self) -> str:
        """See `TrainableParameters`."""
        rank = next(iter(self.layers.values())).lora_a.shape[0]
        return f"LoRA of rank {rank}: {self.parameter_count:,} values on {len(self.layers)} layers"

    @property
    def target_modules(self) -> tuple[str, ...]:
        """The last parts of the layers' paths, such as q_proj."""
        return tuple(sorted({path.rpartition(".")[2] for path in self.layers}))

    @property
    def parameter_count(self) -> int:
        """How many values are trained."""
        return sum(parameter.numel() for parameter in self._parameters)

    def tensors(self) -> dict[str, Tensor]:
        """The values by PEFT's names, in the order of the layers."""
        named = {}
        for path, layer in self.layers.items():
            named[lora_a_name(self._stored[path])] = layer.lora_a.detach()
            named[lora_b_name(self._stored[path])] = layer.lora_b.detach()
        return named

    def write(self, directory: Path, manifest: AdapterManifest) -> None:
        """See `TrainableParameters`."""
        base = link_base(self.own_base, directory) if self.own_base else None
        write_adapter(directory, self.tensors(), manifest, base)

    def restore(self, directory: Path | None) -> None:
        """See `TrainableParameters`."""
        if directory is not None:
            with torch.no_grad():
                self.load(load_tensors(directory))

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes the values of another adapter; InvalidRequest when they do not fit."""
        mine = self.tensors()
        if set(mine) != set(tensors):
            odd = sorted(set(mine) ^ set(tensors))[0]
            raise InvalidRequest(
                f"lora_targets choose other layers than the tuned model's adapter has (such as {odd}). Leave them out "
                "to go on with its layers, or start from the base.",
                param="tunesmith.lora_targets",
                code="invalid_lora_targets",
            )
        for name, value in mine.items():
            if value.shape != tensors[name].shape:
                raise InvalidRequest(
                    f"The adapter to start from has shape {tuple(tensors[name].shape)} at {name}, this job's LoRA has "
                    f"{tuple(value.shape)}: set the LoRA rank to that of the adapter."
                )
            value.copy_(tensors[name])

    def pack_frozen(self) -> None:
        """Repacks its layers' frozen weights for the fastest products.

        The row-major originals are freed.
        """
        for layer in self.layers.values():
            layer.matrix.pack()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Leaves the base alone inside the block, for reference log-probabilities."""
        for layer in self.layers.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enabled = True


def attach(model: nn.Module, options: TrainingOptions, seed: int, head: nn.Module | None = None) -> Adapter:
    """Replaces the target layers of `model` by LoRA layers: A random, B zero.

    A is drawn from `seed`. `head` (the output embedding) is never a target. Raises InvalidRequest naming unknown
    targets.
    """
    model.requires_grad_(False)
    linears = {path: module for path, module in model.named_modules() if is_plain_linear(module)}
    inside = {path: module for path, module in linears.items() if module is not head and in_blocks(path)}
    check_targets(inside, options.target_names)
    chosen = {path: cast(nn.Linear, module) for path, module in inside.items() if is_target(path, options.target_names)}
    layers = {}
    for path, module in chosen.items():
        parent, _, name = path.rpartition(".")
        layers[path] = LoraLinear(module, options).train(module.training)
        setattr(model.get_submodule(parent), name, layers[path])
    adapter = Adapter(layers, {path: stored_path(model, path) for path in layers})
    _initialise(layers, seed)
    return adapter


def _initialise(layers: dict[str, LoraLinear], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        bound = 1 / math.sqrt(layer.in_features)  # as nn.Linear and PEFT
        values = torch.empty(layer.lora_a.shape).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            layer.lora_a.copy_(values)
            layer.lora_b.zero_()
