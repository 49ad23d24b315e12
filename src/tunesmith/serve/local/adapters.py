"""LoRA adapters in PEFT's format, added to a base's linear layers at run time.

They are not merged: that would take a copy of the base for each adapter, or add rounding errors with every change of
adapter. What is not covered: DoRA, trained biases and embeddings, per-layer ranks; each is refused by name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from numpy import float32
from numpy.typing import NDArray

from tunesmith.families.array_panels import Weights, widen
from tunesmith.families.peft_names import PREFIX, lora_b_name, own_path
from tunesmith.models.adapters import CONFIG_FILE, TENSORS_FILE, check_tensors, read_manifest, unusable_adapter
from tunesmith.models.headers.safetensors_header import BadHeader
from tunesmith.models.mapped import map_file


@dataclass(frozen=True, slots=True)
class LowRank:
    """Adds `scale * (x @ a.T) @ b.T` to one linear layer's output."""

    a: NDArray[float32]  # [rank, in]
    b: NDArray[float32]  # [out, rank]
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter in memory."""

    layers: dict[str, LowRank]  # module path in the base -> update
    nbytes: int


def read_adapter(directory: Path) -> Adapter:
    """The adapter in `directory`.

    Raises ServerFault naming what of it cannot be served.
    """
    _check_plain(directory)
    tensors = _tensors(directory)
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


def _tensors(directory: Path) -> dict[str, NDArray[float32]]:
    """The adapter's tensors, in memory of their own: a file that changes later changes no answer."""
    check_tensors(directory)
    try:
        return {
            name: widen(cast(Weights, tensor)).copy() for name, tensor in map_file(directory / TENSORS_FILE).items()
        }
    except (BadHeader, KeyError) as error:
        raise unusable_adapter(
            directory, f"This model's {TENSORS_FILE} cannot be read: {error}. Restore the file, or train again."
        ) from error


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


def check_fit(adapter: Adapter, sizes: Mapping[str, tuple[int, int]], directory: Path) -> None:
    """Raises ServerFault if the adapter does not fit the base or is incomplete.

    An adapter must have the tensors of every layer that it targets.

    The base alone would compute such a layer. `sizes`: (out, in) of every linear layer, by module path.
    """
    for name, low in adapter.layers.items():
        matching = low.a.ndim == low.b.ndim == 2 and low.a.shape[0] == low.b.shape[1]
        if not matching or sizes.get(name) != (low.b.shape[0], low.a.shape[1]):
            raise unusable_adapter(
                directory, f"This model's adapter does not fit its base: {name} is missing or of another size."
            )
    targets = read_manifest(directory).target_modules
    for name in sizes:
        if name.rpartition(".")[2] in targets and name not in adapter.layers:
            raise unusable_adapter(
                directory, f"This model's adapter lacks its tensors of {name}: restore it, or train again."
            )
