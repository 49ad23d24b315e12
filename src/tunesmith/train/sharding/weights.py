"""All weights of a model as trainable parameters, of which each rank has a part."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tunesmith.models.adapters import AdapterManifest
from tunesmith.models.tuned import write_model
from tunesmith.models.weights import load_model
from tunesmith.train.adapters.full_finetuning import aligned_size, in_flat_order
from tunesmith.train.ranks.group import Ranks
from tunesmith.train.sharding.gather import Cut, as_flat, from_flat, gathered, scatter
from tunesmith.train.sharding.optimizer import ShardedAdamW

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class GatheredModel:
    """All weights, on rank 0's processor; nothing is written by the others."""

    model: "PreTrainedModel"
    base_dir: Path
    state: dict[str, Tensor]

    def write(self, directory: Path, manifest: AdapterManifest) -> None:
        """See `TrainableParameters`."""
        write_model(directory, self.model, self.base_dir, manifest, self.state)


class ShardedWeights:
    """Trains every weight of a model whose weights are sharded already.

    Its methods are called by all ranks, in the same order.
    """

    sharded = True

    def __init__(self, model: "PreTrainedModel", base_dir: Path, ranks: Ranks) -> None:
        self.model, self._base_dir, self._ranks = model, base_dir, ranks
        model.requires_grad_(True)
        self._named = {name: cast(DTensor, parameter) for name, parameter in model.named_parameters()}
        parameters = in_flat_order([*self._named.values()])
        self.parameter_count = sum(parameter.numel() for parameter in parameters)
        self._cuts = [Cut(tuple(parameter.shape), ranks.size) for parameter in parameters]
        self._starts = [0, *accumulate(aligned_size(parameter.numel()) for parameter in parameters)]
        self.dtype, self.device = parameters[0].dtype, parameters[0].device
        self._matrices = sum(parameter.dim() >= 2 for parameter in parameters)
        for parameter in parameters:
            parameter.grad = _zeros_like(parameter)  # FSDP adds to it in place
        self._values = [_local(parameter) for parameter in parameters]
        self._grads = [_local(cast(DTensor, parameter.grad)) for parameter in parameters]

    @property
    def nbytes(self) -> int:
        """See `TrainableParameters`."""
        return self._starts[-1] * self.dtype.itemsize

    @property
    def bytes_here(self) -> int:
        """See `TrainableParameters`."""
        return sum(value.nbytes for value in self._values)

    @property
    def description(self) -> str:
        """See `TrainableParameters`."""
        size = self._ranks.size
        return f"All {self.parameter_count:,} weights are trained, a part of each by each of {size} ranks"

    def zero_grad(self) -> None:
        """See `TrainableParameters`."""
        torch._foreach_zero_(self._grads)

    def add_up(self, ranks: Ranks) -> None:
        """FSDP has done so."""

    def check_same(self, ranks: Ranks, step: int) -> None:
        """No value is on two ranks."""

    def optimizer(self, weight_decay: float) -> ShardedAdamW:
        """See `TrainableParameters`."""
        values = [nn.Parameter(value) for value in self._values]
        for value, grad in zip(values, self._grads, strict=True):
            value.grad = grad
        return ShardedAdamW(values, self._matrices, weight_decay, self)

    def values(self) -> Tensor | None:
        """See `TrainableParameters`."""
        return self.whole(self._values)

    def take(self, values: Tensor | None) -> None:
        """See `TrainableParameters`."""
        self.share_out(values, self._values)

    def whole(self, parts: Sequence[Tensor]) -> Tensor | None:
        """One tensor on rank 0 of what each rank has a part of.

        Laid out as `FullFinetuning.flat`.
        """
        return as_flat(parts, self._cuts, self._starts, self._ranks)

    def share_out(self, whole: Tensor | None, parts: Sequence[Tensor]) -> None:
        """The reverse of `whole`."""
        from_flat(whole, parts, self._cuts, self._starts, self._ranks)

    def sum_over_ranks(self, value: float) -> float:
        """For the norm of the gradient."""
        return self._ranks.totals([value])[0]

    def gathered(self) -> GatheredModel:
        """See `TrainableParameters`."""
        state = {}
        for name, parameter in self._named.items():
            whole = gathered(_local(parameter), Cut(tuple(parameter.shape), self._ranks.size), self._ranks)
            if whole is not None:
                state[name] = whole
        if self._ranks.leads:
            held = self.model.state_dict(keep_vars=True)
            state |= {name: value for name, value in held.items() if not isinstance(value, DTensor)}
        return GatheredModel(self.model, self._base_dir, state)

    def restore(self, directory: Path | None) -> None:
        """See `TrainableParameters`; only rank 0 needs a directory."""
        written = {} if directory is None else dict(load_model(directory, self.dtype).named_parameters())
        for name, parameter in self._named.items():
            found, cut = written.get(name), Cut(tuple(parameter.shape), self._ranks.size)
            scatter(None if found is None else found.data, _local(parameter), cut, self._ranks)


def _local(parameter: DTensor) -> Tensor:
    with torch.no_grad():
        return parameter.to_local()


def _zeros_like(parameter: DTensor) -> DTensor:
    """Without an operation on a DTensor, the first of which takes seconds of imports."""
    zeros, how = torch.zeros_like(_local(parameter)), (parameter.device_mesh, parameter.placements)
    return DTensor.from_local(zeros, *how, run_check=False, shape=parameter.shape, stride=parameter.stride())
