"""A model's weights shared out among the ranks, layer by layer.

torch's FSDP2 (`fully_shard`) has each rank hold a part of every weight, and puts a layer's parts together while that
layer is computed, forward and again backward. Gradients of trained weights are added up over the ranks, and each keeps
its part of the sum.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from tunesmith.train.core.device import Device
from tunesmith.train.ranks.group import Ranks
from tunesmith.train.sharding.collectives import HeardAllGather, HeardReduceScatter

if TYPE_CHECKING:
    from torch.distributed.fsdp._fully_shard._fsdp_api import AllGather, ReduceScatter
    from transformers import PreTrainedModel


def shard(
    model: "PreTrainedModel", device: Device, ranks: Ranks, changed: Callable[[nn.Module], None] = lambda _: None
) -> None:
    """Leaves a part of each weight of `model` on this rank's device.

    In the device's format; `model` is on the CPU. A layer is converted, `changed`, and cut before the next one is:
    the model is never there as a whole.
    """
    mesh = DeviceMesh.from_group(cast(dist.ProcessGroup, dist.group.WORLD), "cuda" if device.is_gpu else "cpu")
    done: set[nn.Parameter] = set()
    for module in _groups(model):
        _convert(module, device.dtype, done)
        changed(module)
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
        done.update(module.parameters())
        _set_sums(module, device, ranks)


def _groups(model: nn.Module) -> Iterator[nn.Module]:
    """The layers, then the model with what is outside of them."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    yield from max(lists, key=_size, default=nn.ModuleList())
    yield model


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _convert(module: nn.Module, dtype: torch.dtype, done: set[nn.Parameter]) -> None:
    for parameter in module.parameters():
        if parameter not in done and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def _set_sums(module: nn.Module, device: Device, ranks: Ranks) -> None:
    """Gradients are sums, not means: losses are divided by the weight of the whole batch already."""
    if not isinstance(module, FSDPModule):
        return
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)
    if not device.is_gpu:
        module.set_custom_all_gather(cast("AllGather", HeardAllGather(ranks)))
        module.set_custom_reduce_scatter(cast("ReduceScatter", HeardReduceScatter(ranks)))
