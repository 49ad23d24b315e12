"""Floating-point operations of a step, and the most that this machine does.

What the distinct tokens need is counted: a trainer that computes a shared prefix for each row gets no credit for it.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from tunesmith.families.layout import head_size, layer_configs
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.device import Device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tunesmith.train.paths.scoring import Computed

CPU_SIZE, ACCELERATOR_SIZE = 1024, 8192  # rows and columns of the products that are timed
ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of the forward and the backward pass together."""

    per_token: float
    per_learned: float  # token: the output layer
    per_visible: float  # key that a query sees: scores and values, all layers and heads

    @classmethod
    def of(cls, model: "PreTrainedModel", adapter: object) -> "Work":
        """The work of a model with its adapter attached, before modules are replaced.

        A frozen weight costs 2 forward and 2 for the gradient of its input, a trained one 2 more for its own.
        Attention costs 4 per head dimension forward and 8 back (Dao et al., 2022, arXiv:2205.14135, who recompute).
        """
        head = model.get_output_embeddings()
        layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
        config = model.config.get_text_config()
        width = sum(head_size(layer) * layer.num_attention_heads for layer in layer_configs(config))
        rate, low_rank = (4.0, adapter.parameter_count) if isinstance(adapter, Adapter) else (6.0, 0)
        return cls(rate * sum(map(_values, layers)) + 6.0 * low_rank, rate * _values(head), 12.0 * width)

    def flops(self, computed: "Computed") -> float:
        """The operations of what went through the model."""
        return (
            self.per_token * computed.tokens + self.per_learned * computed.learned + self.per_visible * computed.visible
        )


def _values(layer: nn.Module) -> int:
    """Of a linear layer's weight, also where that was repacked or quantized."""
    inputs, outputs = layer.in_features, layer.out_features
    return int(inputs) * int(outputs)  # type: ignore[arg-type]


def matmul_peak(device: Device, size: int = 0) -> float:
    """FLOP/s of the best of some square matrix products.

    `size` 0: one that takes a tenth of a second in all.
    """
    size = size or (ACCELERATOR_SIZE if device.is_gpu else CPU_SIZE)
    one = torch.ones(size, size, dtype=device.dtype, device=device.name)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        torch.mm(one, one)
        if device.is_gpu:
            torch.cuda.synchronize(device.name)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
