"""What generates tokens, as a protocol: token ids in, token ids with log-probabilities out.

An engine knows nothing of text, messages or stop strings; `serve.chat.answer` stands above it. This module imports no
torch, so that the API can hold engines without paying for it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Literal, Protocol, TypeAlias

Finish: TypeAlias = Literal["stop", "length"]


class Matcher(Protocol):
    """Where one choice stands in its grammar. Not thread-safe; who generates and who reads have one each."""

    finished: bool  # nothing but an end token may follow

    def allowed(self) -> bytes:
        """One bit per token id, the least significant first: which may come next. Only end tokens once finished."""
        ...

    def advance(self, token: int) -> None:
        """Raises ServerFault for a token that was not allowed."""
        ...


class Grammar(Protocol):
    """What an answer may be, compiled for one vocabulary."""

    @property
    def text(self) -> str:
        """The grammar as llguidance reads it."""
        ...

    def start(self) -> Matcher: ...


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """`n` choices that continue one prompt. Greedy when `temperature` is 0."""

    prompt: tuple[int, ...]
    max_tokens: int  # per choice; the context's end may come first. 0 only to read a prompt with `prompt_logprobs`
    eos_ids: frozenset[int]
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None  # None: another one each time
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its logit)
    top_logprobs: int | None = None  # None: no log-probabilities; 0: the chosen token's only
    prompt_logprobs: bool = False  # the prompt's too, with as many others; needs two tokens, and `top_logprobs`
    adapter: Path | None = None  # directory in PEFT's format; None: the bare base
    project: str = ""  # shares its turns in the queue, and finds only its own prompts in the prefix cache
    grammar: Grammar | None = None  # each choice is held to it: see `sampling.Sampler`


@dataclass(frozen=True, slots=True)
class Delta:
    """One token of one choice. The token that ends a turn comes too, with `finish` "stop".

    Log-probabilities are the model's own: before temperature, top_p, penalties, bias and grammar.
    """

    choice: int
    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()  # (token id, log-probability), likeliest first
    finish: Finish | None = None


class Engine(Protocol):
    """One base model in memory, with any number of adapters."""

    context_length: int
    fingerprint: str  # changes when the answers may: weights, number format, engine

    def submit(self, request: GenerateRequest) -> "Generation":
        """Queues the request and returns at once. Raises ServiceUnavailable when too many wait."""
        ...

    def close(self) -> None:
        """Takes no new requests; those under way are finished, then the memory is given back."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Waits until everything accepted is answered, after `close`."""
        ...


class Generation:
    """The deltas of one request, handed from the engine's thread to whoever asked.

    The reader iterates (`for` or `deltas_async`); the engine calls `put`, `fail` and `end`. Closing it from either
    side of a connection makes the engine drop the request at its next step.
    """

    def __init__(self, choices: int) -> None:
        self.cached_tokens = 0  # of the prompt, whose keys and values were still there; known with the first delta
        self.prompt: list[Delta] = []  # its tokens from the second on, if asked for; all there with the first delta
        self._items: deque[Delta] = deque()
        self._changed = Condition()
        self._wake: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._unwanted: set[int] = set()
        self._choices = choices

    def __iter__(self) -> Iterator[Delta]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                batch = self._take()
            if not batch:
                return
            yield from batch

    async def deltas_async(self) -> AsyncIterator[Delta]:
        """The same on an event loop, without a thread that waits."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ready.set)

        with self._changed:
            self._wake = wake
            if self._items or self._ended:
                ready.set()
        while True:
            await ready.wait()
            ready.clear()
            with self._changed:
                batch, ended = self._take(), self._ended
            for delta in batch:
                yield delta
            if ended:
                if self._error is not None and batch:
                    raise self._error
                return

    def stop(self, choice: int) -> None:
        """This choice is long enough (a stop string was seen); the others go on."""
        self._unwanted.add(choice)

    def close(self) -> None:
        """Nobody reads any more."""
        self._unwanted.update(range(self._choices))
        self.end()

    def wanted(self, choice: int) -> bool:
        return choice not in self._unwanted

    @property
    def closed(self) -> bool:
        """True when no choice is wanted any more."""
        return len(self._unwanted) >= self._choices

    def put(self, deltas: list[Delta]) -> None:
        with self._changed:
            self._items.extend(deltas)
            self._notify()

    def fail(self, error: BaseException) -> None:
        """The reader gets `error` after the deltas that came before it; no other choice is wanted then."""
        self._unwanted.update(range(self._choices))
        with self._changed:
            self._error = error
            self._ended = True
            self._notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    def _take(self) -> list[Delta]:
        """What has come; raises the engine's error once everything before it was read."""
        batch = list(self._items)
        self._items.clear()
        if not batch and self._error is not None:
            raise self._error
        return batch
