"""A GGUF file as the model in it.

Its keys are named without the architecture before them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.models.gguf.metadata import EMBEDDINGS, OUTPUT, GgufReader, Metadata, values_of


@dataclass(frozen=True, slots=True)
class GgufModel:
    """What the conversion asks of a file.

    Methods raise InvalidRequest for a key that is missing or of another type.
    """

    architecture: str
    reader: GgufReader
    metadata: Metadata

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number of the model's; `default` where the key is missing."""
        return self.metadata.integer(f"{self.architecture}.{key}", default)

    def number(self, key: str, default: float | None = None) -> float:
        """A number of the model's; `default` where the key is missing."""
        return self.metadata.number(f"{self.architecture}.{key}", default)

    def precise(self, key: str) -> float:
        """A number as its authors wrote it, which the file has in 32 bits."""
        return float(f"{self.number(key):.6g}")

    def text(self, key: str) -> str:
        """A text of the model's; "" where the key is missing."""
        return str(self.metadata.get(f"{self.architecture}.{key}") or "")

    @property
    def names(self) -> frozenset[str]:
        """Those of the tensors."""
        return frozenset(tensor.name for tensor in self.reader.tensors)

    @property
    def tied(self) -> bool:
        """Whether the embeddings are the output layer too."""
        return OUTPUT not in self.names

    @property
    def layers(self) -> int:
        """How many blocks there are."""
        return self.integer("block_count")

    @property
    def hidden(self) -> int:
        """The width of a token between the blocks."""
        return self.integer("embedding_length")

    @property
    def heads(self) -> int:
        """The heads of queries."""
        return self.integer("attention.head_count")

    @property
    def kv_heads(self) -> int:
        """The heads of keys and values."""
        return self.integer("attention.head_count_kv", self.heads)

    @property
    def head_size(self) -> int:
        """The width of a head."""
        return self.integer("attention.key_length", self.hidden // self.heads)

    @property
    def context(self) -> int:
        """The longest sequence."""
        return self.integer("context_length")

    @property
    def original_context(self) -> int:
        """The longest sequence before its rotation was stretched."""
        return self.integer("rope.scaling.original_context_length", self.context)

    @property
    def vocabulary(self) -> int:
        """The rows of the embeddings."""
        for tensor in self.reader.tensors:
            if tensor.name == EMBEDDINGS:
                return int(tensor.shape[-1])
        raise InvalidRequest(f"The GGUF file has no tensor {EMBEDDINGS}: it is damaged.")

    def vector(self, name: str) -> NDArray[np.float32] | None:
        """The values of a tensor; None where there is none of the name."""
        for tensor in self.reader.tensors:
            if tensor.name == name:
                return values_of(tensor)
        return None
