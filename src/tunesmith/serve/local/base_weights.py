"""A base as the compiled runner takes it: a shape and arrays, without torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy

from tunesmith.families.array_panels import DTYPES, KINDS, Weights, Width
from tunesmith.families.blocks.panels import format_of
from tunesmith.families.layout import HEAD_NORMS, LAYER_NORMS, SHARED_INPUTS, layer_path
from tunesmith.families.rotation import Angles, Rotation
from tunesmith.families.served_shape import EMBEDDING, HEAD, ServedShape, has_its_tensors, served_shape
from tunesmith.jsonvalue import JsonObject
from tunesmith.kernels.vectors import HAS_HALF, Number
from tunesmith.models.gguf.block_index import BlockMatrix
from tunesmith.models.mapped import map_tensors
from tunesmith.serve.local.panels.lora import Part

WIDTHS: dict[Number, Width] = {Number.FLOAT16: "float16", Number.BFLOAT16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """The weights of a model that the kernels compute, by the names of a causal model."""

    shape: ServedShape
    tensors: Mapping[str, Weights]
    sizes: Mapping[str, tuple[int, int]]  # outputs and inputs of every linear layer, by its path
    parts: Sequence[tuple[Part, ...]]  # LAYER_MATRICES for each layer: linears that read the same input
    norms: Sequence[Mapping[str, str]]  # of each layer: the field of the kernels' table -> the module's path
    rotation: Angles
    blocks: Mapping[str, BlockMatrix] = field(default_factory=dict)  # of a GGUF file: served in place of the tensors

    def weight(self, path: str) -> Weights:
        """The weight of the module at `path`; the output layer's may be the embedding."""
        name = f"{path}.weight"
        return self.tensors[EMBEDDING if name == HEAD and name not in self.tensors else name]

    def bias(self, path: str) -> Weights | None:
        """The bias of the module at `path`."""
        return self.tensors.get(f"{path}.bias")

    def block_matrix(self, path: str) -> BlockMatrix | None:
        """The blocks of the module at `path`, where the base's GGUF file has them."""
        if not self.blocks:
            return None
        name = f"{path}.weight"
        tied = name == HEAD and numpy.may_share_memory(self.weight(path), self.tensors[EMBEDDING])
        return self.blocks.get(EMBEDDING if tied else name)

    def block_format(self, parts: Sequence[Part]) -> Number | None:
        """The format of panels that hold the blocks of these linears as they are.

        None where there is none.
        """
        matrices = [self.block_matrix(part.path) for part in parts]
        kinds = [matrix.kind for matrix in matrices if matrix is not None]
        return format_of(kinds) if len(kinds) == len(matrices) else None

    def is_in_blocks(self) -> bool:
        """Whether most of the linear layers' weights are."""
        matrices = [self.block_matrix(path) for path in self.sizes]
        sizes = [outputs * inputs for outputs, inputs in self.sizes.values()]
        inside = sum(size for size, matrix in zip(sizes, matrices, strict=True) if matrix is not None)
        return 2 * inside > sum(sizes)

    def linears(self) -> list[Weights]:
        """The weights of all linear layers."""
        return [self.weight(path) for path in self.sizes]

    def panel_bytes(self) -> int:
        """What all linear layers take in the format `stored`."""
        size = DTYPES[self.stored()].itemsize
        return sum(size * outs * ins for outs, ins in self.sizes.values())

    def stored(self) -> Width:
        """The format of panels that hold all linear layers without rounding.

        float32 unless all are in the same one of 16 bits, and the processor reads that.
        """
        (kind, *others) = {KINDS[weight.dtype] for weight in self.linears()}
        readable = not others and (HAS_HALF or kind is not Number.FLOAT16)
        return WIDTHS.get(kind, "float32") if readable else "float32"


def map_weights(directory: Path) -> BaseWeights | None:
    """The base over its mapped files.

    None where only transformers can tell what it is.
    """
    config: JsonObject = json.loads((directory / "config.json").read_text("utf-8"))
    shape = served_shape(config)
    tensors = None if shape is None else map_tensors(directory)
    if shape is None or tensors is None or not has_its_tensors(config, shape, tensors):
        return None
    sizes = shape.linears()
    groups = [(layer_path(index), names) for index in range(shape.layers) for names in SHARED_INPUTS]
    parts = [tuple(Part(f"{layer}.{name}", sizes[f"{layer}.{name}"][:1]) for name in names) for layer, names in groups]
    norms = [_norms(index, tensors) for index in range(shape.layers)]
    rotation = Rotation(shape.frequencies)
    return BaseWeights(shape, cast(Mapping[str, Weights], tensors), sizes, parts, norms, rotation)


def _norms(index: int, tensors: Mapping[str, object]) -> dict[str, str]:
    paths = {field: f"{layer_path(index)}.{name}" for field, name in (LAYER_NORMS | HEAD_NORMS).items()}
    return {field: path for field, path in paths.items() if f"{path}.weight" in tensors}
