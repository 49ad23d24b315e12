"""Loading a base whose weights are shared out among the ranks."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from tunesmith.models.facts import count_parameters
from tunesmith.models.weights import load_model
from tunesmith.train.adapters.full_finetuning import add_update, updates_of
from tunesmith.train.core.device import Device
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import Ranks
from tunesmith.train.sharding.shard import shard
from tunesmith.train.sharding.weights import ShardedWeights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STORED: dict[tuple[str, ...], torch.dtype] = {("BF16",): torch.bfloat16, ("F16",): torch.float16}


def load_sharded(spec: TrainSpec, device: Device, ranks: Ranks) -> "PreTrainedModel":
    """The frozen base, a part of each weight on this rank's device.

    The file is mapped, and of its pages a layer's are read at a time, unless it holds several number formats.
    """
    model = load_model(spec.base_dir, stored_dtype(spec.base_dir))
    shard(model, device, ranks)
    return model


def load_sharded_weights(spec: TrainSpec, device: Device, ranks: Ranks) -> ShardedWeights:
    """The same to train all of them, with the LoRA that the job goes on from added."""
    model = load_model(spec.base_dir, stored_dtype(spec.base_dir))
    updates = list(updates_of(model, spec.init_adapter_dir)) if spec.init_adapter_dir else []

    def merge(module: nn.Module) -> None:
        inside = set(module.modules())
        for layer, b, a, scale in updates:
            if layer in inside:
                add_update(layer, b, a, scale)
        updates[:] = [one for one in updates if one[0] not in inside]

    shard(model, device, ranks, merge)
    return ShardedWeights(model, spec.base_dir, ranks)


def stored_dtype(directory: Path) -> torch.dtype:
    """What holds all of the base's weights exactly: its file need only be mapped."""
    return STORED.get(tuple(count_parameters(directory)), torch.float32)
