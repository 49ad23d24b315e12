"""LoRA adapters in PEFT's format, added to a base's linear layers at run time.

They are not merged: that would take a copy of the base for each adapter, or add rounding errors with every change of
adapter. What is not covered: DoRA, trained biases and embeddings, per-layer ranks; each is refused by name.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.families.peft_names import PREFIX, lora_b_name
from tunesmith.families.text_part import is_plain_linear, own_path
from tunesmith.models.adapters import CONFIG_FILE, load_tensors, read_manifest, unusable_adapter


@dataclass(frozen=True, slots=True)
class LowRank:
    """Adds `scale * (x @ a.T) @ b.T` to one linear layer's output."""

    a: Tensor  # [rank, in]
    b: Tensor  # [out, rank]
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter in memory."""

    layers: dict[str, LowRank]  # module path in the base -> update
    nbytes: int


def read_adapter(directory: Path, dtype: torch.dtype, device: torch.device) -> Adapter:
    """The adapter in `directory`.

    Raises ServerFault naming what of it cannot be served.
    """
    _check_plain(directory)
    tensors = {name: tensor.to(device, dtype) for name, tensor in load_tensors(directory).items()}
    manifest = read_manifest(directory)
    scale = manifest.alpha / manifest.rank
    layers: dict[str, LowRank] = {}
    for name, tensor in tensors.items():
        path, _, kind = name.removeprefix(PREFIX).rpartition(".lora_")
        if not path or kind not in ("A.weight", "B.weight"):
            raise unusable_adapter(
                directory,
                f"This model's adapter has a tensor {name!r} that is not part of a LoRA; it cannot be served.",
            )
        if kind == "A.weight":
            layers[own_path(path)] = LowRank(tensor, tensors[lora_b_name(path)], scale)
    return Adapter(layers, sum(low.a.nbytes + low.b.nbytes for low in layers.values()))


def _check_plain(directory: Path) -> None:
    """Names what is no plain LoRA; `load_tensors` tells whether the file is the one of the manifest."""
    try:
        config = json.loads((directory / CONFIG_FILE).read_bytes())
    except (OSError, ValueError):
        return  # `load_tensors` says so
    if not isinstance(config, dict):
        return
    refused = {
        "use_dora": config.get("use_dora"),
        "bias": config.get("bias", "none") != "none",
        "modules_to_save": config.get("modules_to_save"),
        "rank_pattern": config.get("rank_pattern"),
        "alpha_pattern": config.get("alpha_pattern"),
        "fan_in_fan_out": config.get("fan_in_fan_out"),
        "use_rslora": config.get("use_rslora"),
    }
    for name, value in refused.items():
        if value:
            raise unusable_adapter(
                directory,
                f"This model's adapter has {name} in {CONFIG_FILE}, which is not supported; train a plain LoRA.",
            )


def check_fit(adapter: Adapter, sizes: dict[str, tuple[int, int]], directory: Path) -> None:
    """Raises ServerFault if the adapter does not fit the base or is incomplete.

    An adapter must have the tensors of every layer that it targets.

    The base alone would compute such a layer. `sizes`: (out, in) of every linear layer, by module path.
    """
    for name, low in adapter.layers.items():
        if sizes.get(name) != (low.b.shape[0], low.a.shape[1]):
            raise unusable_adapter(
                directory, f"This model's adapter does not fit its base: {name} is missing or of another size."
            )
    targets = read_manifest(directory).target_modules
    for name in sizes:
        if name.rpartition(".")[2] in targets and name not in adapter.layers:
            raise unusable_adapter(
                directory, f"This model's adapter lacks its tensors of {name}: restore it, or train again."
            )


class LoraHooks:
    """Forward hooks on linear layers that add the update of the active adapter."""

    def __init__(self, model: nn.Module) -> None:
        self.active: Adapter | None = None
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
