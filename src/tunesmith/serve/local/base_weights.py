"""A base as the compiled runner takes it: a shape and arrays, without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tunesmith.families.array_panels import Weights
from tunesmith.families.served_shape import EMBEDDING, HEAD, ServedShape, has_its_tensors, served_shape
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.mapped import map_tensors


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """The weights of a model that the kernels compute, by the names of a causal model."""

    shape: ServedShape
    tensors: Mapping[str, Weights]

    def weight(self, path: str) -> Weights:
        """The weight of the module at `path`; the output layer's may be the embedding."""
        name = f"{path}.weight"
        return self.tensors[EMBEDDING if name == HEAD and name not in self.tensors else name]

    def bias(self, path: str) -> Weights | None:
        """The bias of the module at `path`."""
        return self.tensors.get(f"{path}.bias")

    def linears(self) -> list[Weights]:
        """The weights of all linear layers."""
        return [self.weight(path) for path in self.shape.linears()]


def map_weights(directory: Path) -> BaseWeights | None:
    """The base over its mapped files.

    None where only transformers can tell what it is.
    """
    config: JsonObject = json.loads((directory / "config.json").read_text("utf-8"))
    shape = served_shape(config)
    tensors = None if shape is None else map_tensors(directory)
    if shape is None or tensors is None or not has_its_tensors(config, shape, tensors):
        return None
    return BaseWeights(shape, cast(Mapping[str, Weights], tensors))
