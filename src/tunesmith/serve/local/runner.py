"""Forward passes for the engine: tokens of several sequences in, logits out.

A runner of transformers' own modules is in `transformers_runner`, that of compiled code in `llama_runner`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from numpy import float32
from numpy.typing import NDArray

from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.engine.slots import Storage


class AnyAdapter(Protocol):
    """An adapter in memory; a runner only gets what its own `read_adapter` returned."""

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        ...


class Runner(Storage, Protocol):
    """A base in memory that computes logits for chunks of sequences."""

    context_length: int
    vocabulary: int  # tokens that the weights know; a tokenizer may have others
    token_bytes: int  # of keys and values per position
    rewinds: bool  # keys and values can be cut at any position

    def read_adapter(self, directory: Path) -> AnyAdapter:
        """The adapter as this runner needs it.

        Raises ServerFault if it does not fit the base.
        """
        ...

    def forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]], threads: int = 1) -> NDArray[float32]:
        """The requested logits of all chunks [sum of `logits`, V], in float32."""
        ...
