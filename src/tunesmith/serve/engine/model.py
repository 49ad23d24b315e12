"""What a scheduler drives: a model's forward pass over chunks of sequences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol

from tunesmith.serve.engine.prompt_lookup import Drafter
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.engine.sequences import AdapterT, RowT, Sampling
from tunesmith.serve.engine.slots import Storage


@dataclass(frozen=True, slots=True)
class SequenceChunk(Generic[AdapterT]):
    """Tokens that follow the first `start` positions of a slot.

    The last `logits` of them need logits.
    """

    slot: int
    start: int
    ids: tuple[int, ...]
    adapter: AdapterT | None
    logits: int


class Model(Storage, Protocol[AdapterT, RowT]):
    """What a scheduler drives: a forward pass, and what belongs to one request."""

    def forward(self, chunks: "Sequence[SequenceChunk[AdapterT]]") -> Sequence[RowT]:
        """The requested logits of all chunks, in the chunks' order.

        That is the order of their slots.
        """
        ...

    def sampler(self, request: GenerateRequest, choice: int) -> Sampling[RowT]:
        """What chooses the tokens of one choice."""
        ...

    def adapter(self, request: GenerateRequest) -> AdapterT | None:
        """Raises when the adapter cannot be had; only this request fails then."""
        ...

    def drafter(self, request: GenerateRequest) -> Drafter | None:
        """What drafts for one choice of the request; None for no drafts."""
        ...
