"""Requests and their choices, waiting or running, as the scheduler sees them."""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeAlias, TypeVar

from tunesmith.serve.engine.prompt_lookup import Drafter
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.engine.slots import Slot

AdapterT = TypeVar("AdapterT")
RowT = TypeVar("RowT")
SeenT = TypeVar("SeenT", contravariant=True)
Top: TypeAlias = tuple[tuple[int, float], ...]


class Sampling(Protocol[SeenT]):
    """What chooses the tokens of one sequence."""

    def next(self, row: SeenT) -> tuple[int, float | None, Top]:
        """Draws the sequence's next token.

        Returns it, its log-probability, and the likeliest tokens with theirs.
        """
        ...

    def score(self, row: SeenT, token: int) -> tuple[float, Top]:
        """The log-probability of `token` as the next, and the likeliest with theirs."""
        ...


@dataclass(slots=True, eq=False)
class RequestState:
    """A request, and how much of it is still to do."""

    request: GenerateRequest
    generation: Generation
    unfinished: int  # choices
    prompt: list[int]
    started: bool = False

    @property
    def unscored(self) -> int:
        """Prompt tokens whose log-probability was requested and is not known yet."""
        wanted = len(self.request.prompt) - 1 if self.request.prompt_logprobs else 0
        return wanted - len(self.generation.prompt)

    def finish_choice(self) -> None:
        """Counts a choice as finished; the last one ends the generation."""
        self.unfinished -= 1
        if self.unfinished == 0:
            self.generation.end()


@dataclass(slots=True, eq=False)
class RunningSequence(Generic[AdapterT, RowT]):
    """One choice of a request that has a slot."""

    state: RequestState
    choice: int
    tokens: list[int]  # the prompt and what was generated
    sampler: Sampling[RowT]
    slot: Slot
    adapter: AdapterT | None
    drafter: Drafter | None
    read: int  # tokens that had to go through the model before the first new one
    length: int  # tokens when it got its slot
    draft: list[int] = field(default_factory=list)  # tried in the current step

    @property
    def project(self) -> str:
        """Whose it is."""
        return self.state.request.project

    @property
    def background(self) -> bool:
        """Whether nobody waits for it."""
        return self.state.request.background

    @property
    def slice(self) -> tuple[int, int]:
        """Tokens that it read and generated since it got its slot."""
        return self.read, len(self.tokens) - self.length

    @property
    def generated(self) -> int:
        """Tokens of the answer."""
        return len(self.tokens) - len(self.state.request.prompt)

    @property
    def prefilling(self) -> bool:
        """True while part of the prompt has not gone through the model."""
        return len(self.tokens) - len(self.slot.tokens) > 1

    @property
    def wanted(self) -> bool:
        """False once nobody reads the choice any more."""
        return self.state.generation.wanted(self.choice)


@dataclass(slots=True, eq=False)
class WaitingChoice(Generic[RowT]):
    """A choice without a slot: it has not started, or was preempted."""

    state: RequestState
    choice: int
    tokens: list[int]
    sampler: Sampling[RowT] | None = None
    preempted: bool = False

    @property
    def background(self) -> bool:
        """Whether nobody waits for it."""
        return self.state.request.background

    @property
    def wanted(self) -> bool:
        """False once nobody reads the choice any more."""
        return self.state.generation.wanted(self.choice)
