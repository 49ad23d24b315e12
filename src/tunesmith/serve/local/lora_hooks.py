"""LoRA adapters beside the modules of transformers, by forward hooks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.families.text_part import is_plain_linear
from tunesmith.serve.local.adapters import Adapter


@dataclass(frozen=True, slots=True)
class TorchLowRank:
    """Adds `scale * (x @ a.T) @ b.T` to one linear layer's output."""

    a: Tensor  # [rank, in]
    b: Tensor  # [out, rank]
    scale: float


@dataclass(frozen=True, slots=True)
class TorchAdapter:
    """A LoRA adapter in memory, in the base's format and on its device."""

    layers: dict[str, TorchLowRank]  # module path in the base -> update
    nbytes: int


def to_torch(adapter: Adapter, dtype: torch.dtype, device: torch.device) -> TorchAdapter:
    """The adapter as the hooks need it."""
    layers = {
        path: TorchLowRank(
            torch.from_numpy(low.a).to(device, dtype), torch.from_numpy(low.b).to(device, dtype), low.scale
        )
        for path, low in adapter.layers.items()
    }
    return TorchAdapter(layers, sum(low.a.nbytes + low.b.nbytes for low in layers.values()))


class LoraHooks:
    """Forward hooks on linear layers that add the update of the active adapter."""

    def __init__(self, model: nn.Module) -> None:
        self.active: TorchAdapter | None = None
        linears = {name: cast(nn.Linear, module) for name, module in model.named_modules() if is_plain_linear(module)}
        self.sizes = {name: (linear.out_features, linear.in_features) for name, linear in linears.items()}
        for name, module in linears.items():
            hook: Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None] = partial(self._add, name)
            module.register_forward_hook(hook)

    def _add(self, name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        low = self.active.layers.get(name) if self.active else None
        if low is None:
            return None
        return output + nn.functional.linear(nn.functional.linear(inputs[0], low.a), low.b) * low.scale
