"""Merged weights: the base's weight files with the adapter added to them.

Names, files and number formats are the base's: each adapted matrix is computed in float32 and rounded once to the
format that it had, everything else is copied bit by bit. One file is in memory at a time.

What is not covered: layers that the base's files name otherwise than its model does; they are refused before anything
is written.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from tunesmith.errors import InvalidRequest
from tunesmith.export.tuned_model import TunedModel, side_files
from tunesmith.families.peft_names import A_SUFFIX, PREFIX, lora_b_name, own_path
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import load_tensors

Told: TypeAlias = Callable[[str], None]  # what is done now, for the person who waits


@dataclass(frozen=True, slots=True)
class Update:
    """What an adapter adds to one matrix: `scale * b @ a`."""

    path: str  # of the layer, by the base's own names
    a: Tensor  # [rank, in]
    b: Tensor  # [out, rank]
    scale: float

    def added_to(self, weight: Tensor) -> Tensor:
        """The sum, in the weight's own number format."""
        delta = (self.b.float() @ self.a.float()) * self.scale
        return (weight.float() + delta).to(weight.dtype)


def updates_of(model: TunedModel) -> dict[str, Update]:
    """The adapter's matrices by the path of their layer.

    {} where all weights were trained. Raises InvalidRequest for a layer that the base's files do not have.
    """
    if not model.is_adapter:
        return {}
    tensors, scale = load_tensors(model.directory), model.manifest.alpha / model.manifest.rank
    found = {}
    for name, a in tensors.items():
        path, is_a, _ = name.removeprefix(PREFIX).partition(A_SUFFIX)
        if is_a:
            found[own_path(path)] = Update(path, a, tensors[lora_b_name(path)], scale)
    shapes = {layer_of(name): shape for name, shape in weight_shapes(model.base_dir).items()}
    for path, update in found.items():
        if shapes.get(path) != (update.b.shape[0], update.a.shape[1]):
            raise InvalidRequest(
                f"{model.name} cannot be merged: the base's files have no matrix of its layer {path} under that name"
                " and of that size. Export the adapter alone: --to peft"
            )
    return found


def weight_shapes(base_dir: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors in a base's files, by their names there."""
    shapes = {}
    for file in sorted(base_dir.glob("*.safetensors")):
        with file.open("rb") as handle:
            header: JsonObject = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__" and isinstance(tensor, dict) and isinstance(tensor["shape"], list):
                shapes[name] = tuple(int(str(size)) for size in tensor["shape"])
    return shapes


def layer_of(name: str) -> str:
    """The path of the layer whose matrix a tensor is."""
    return own_path(name.removesuffix(".weight")) if name.endswith(".weight") else ""


def merged_tensors(model: TunedModel, updates: dict[str, Update]) -> Iterator[tuple[Path, dict[str, Tensor]]]:
    """Yields each weight file of the base with its tensors, the adapter added."""
    from safetensors.torch import load_file

    for file in sorted(model.base_dir.glob("*.safetensors")):
        tensors = load_file(file)
        for name, weight in tensors.items():
            update = updates.get(layer_of(name))
            if update is not None:
                tensors[name] = update.added_to(weight)
        yield file, tensors


def merged_bytes(model: TunedModel) -> int:
    """How many bytes `write_merged` writes."""
    files = [*model.base_dir.glob("*.safetensors"), *side_files(model.base_dir)]
    return sum(file.stat().st_size for file in files)


@torch.no_grad()
def write_merged(model: TunedModel, folder: Path, told: Told) -> None:
    """Writes the merged model as a Hugging Face directory."""
    from safetensors.torch import save_file

    updates = updates_of(model)
    for file in side_files(model.base_dir):
        shutil.copyfile(file, folder / file.name)
    for file, tensors in merged_tensors(model, updates):
        told(f"writing {file.name}")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file.name, {"format": "pt"})
