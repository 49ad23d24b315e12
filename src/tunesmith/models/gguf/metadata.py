"""The keys of a GGUF file, and its tensors as numpy has them."""

import math
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest


class Metadata:
    """The keys, each read when it is asked for: a vocabulary takes seconds.

    Each method but `get` raises InvalidRequest for a key that is missing or of another type.
    """

    def __init__(self, fields: "Mapping[str, Field]") -> None:
        self._fields = fields
        self._read: dict[str, object] = {}

    def get(self, name: str, default: object = None) -> object:
        """Any value; `default` for a missing key."""
        if name in self._fields and name not in self._read:
            self._read[name] = self._fields[name].contents()
        return self._read.get(name, default)

    def value(self, name: str) -> object:
        """Any value."""
        if name not in self._fields:
            raise InvalidRequest(f"GGUF key {name} is missing: the file is damaged.")
        return self.get(name)

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number; `default` where the key is missing."""
        value = default if default is not None and name not in self._fields else self.value(name)
        if not isinstance(value, int):
            raise InvalidRequest(f"GGUF key {name} is {value!r}, not an integer: the file is damaged.")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number; `default` where the key is missing."""
        value = default if default is not None and name not in self._fields else self.value(name)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InvalidRequest(f"GGUF key {name} is {value!r}, not a number: the file is damaged.")
        return float(value)

    def strings(self, name: str) -> list[str]:
        """A list of texts."""
        return [str(item) for item in self._list(name)]

    def integers(self, name: str) -> list[int]:
        """A list of whole numbers."""
        return [int(item) for item in self._list(name)]

    def numbers(self, name: str) -> list[float]:
        """A list of numbers."""
        return [float(item) for item in self._list(name)]

    def _list(self, name: str) -> list[str]:
        value = self.value(name)
        if not isinstance(value, list):
            raise InvalidRequest(f"GGUF key {name} is not a list: the file is damaged.")
        return value


class Field(Protocol):
    """A key of the gguf library's reader."""

    def contents(self, index_or_slice: int | slice = ...) -> object:
        """The value."""
        ...


class GgufTensor(Protocol):
    """What is used of the gguf library's tensor. The shape has the row's length first."""

    name: str
    data: NDArray[np.generic]
    tensor_type: IntEnum  # how its numbers are stored; a GGMLQuantizationType
    n_elements: int
    data_offset: int
    shape: NDArray[np.uint32]


class GgufReader(Protocol):
    """What is used of the gguf library's reader."""

    fields: dict[str, Field]
    tensors: list[GgufTensor]


def open_gguf(file: Path) -> tuple[GgufReader, Metadata]:
    """The library's reader on the file, and its keys."""
    from gguf import GGUFReader

    reader: GgufReader = GGUFReader(file)
    return reader, Metadata(reader.fields)


def values_of(tensor: GgufTensor, data: NDArray[np.generic] | None = None) -> NDArray[np.float32]:
    """The numbers of a tensor in float32, as the gguf library reads its quantisation.

    `data`: only these of its rows.

    Raises InvalidRequest for one that it does not read.
    """
    from gguf import dequantize

    try:
        return np.ascontiguousarray(
            dequantize(tensor.data if data is None else data, tensor.tensor_type), dtype=np.float32
        )
    except NotImplementedError:
        raise InvalidRequest(
            f"The GGUF tensor {tensor.name} is quantized as {tensor.tensor_type.name}, which the installed gguf package"
            " cannot read. Take a file of another quantisation, or the model's Hugging Face directory."
        ) from None


EMBEDDINGS, OUTPUT = "token_embd.weight", "output.weight"
