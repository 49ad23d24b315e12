"""The keys of a GGUF file, and its tensors as numpy has them."""

from collections.abc import Iterator, Mapping
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

    def get(self, name: str) -> object:
        """Any value; None for a missing key."""
        if name in self._fields and name not in self._read:
            self._read[name] = self._fields[name].contents()
        return self._read.get(name)

    def value(self, name: str) -> object:
        """Any value."""
        if name not in self._fields:
            raise InvalidRequest(f"GGUF key {name} is missing: the file is damaged.")
        return self.get(name)

    def integer(self, name: str) -> int:
        """A whole number."""
        value = self.value(name)
        if not isinstance(value, int):
            raise InvalidRequest(f"GGUF key {name} is {value!r}, not an integer: the file is damaged.")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number; `default` where the key is missing."""
        value = default if default is not None and name not in self._fields else self.value(name)
        if not isinstance(value, (int, float)):
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


class _Tensor(Protocol):
    name: str
    data: NDArray[np.generic]
    tensor_type: object
    n_elements: int


class GgufReader(Protocol):
    """What is used of the gguf library's reader."""

    fields: dict[str, Field]
    tensors: list[_Tensor]


def open_gguf(file: Path) -> tuple[GgufReader, Metadata]:
    """The library's reader on the file, and its keys."""
    from gguf import GGUFReader

    reader: GgufReader = GGUFReader(file)
    return reader, Metadata(reader.fields)


def dequantised(reader: GgufReader) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each tensor by its GGUF name, in float32.

    Exact for any quantisation that the gguf library reads.
    """
    from gguf import dequantize

    for tensor in reader.tensors:
        yield tensor.name, np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)


def block_part(name: str) -> tuple[str, str]:
    """(number of the layer, part) of a tensor such as `blk.3.attn_q.weight`."""
    _, block, part, _ = name.split(".")
    return block, part


EMBEDDINGS, OUTPUT = "token_embd.weight", "output.weight"
GLOBAL_NAMES = {
    EMBEDDINGS: "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    OUTPUT: "lm_head.weight",
}
