"""The engine protocol: token ids in, token ids with log-probabilities out.

An engine knows nothing of text, messages or stop strings; `serve.chat.answer` builds on it. This module does not import
torch, so that the API can hold engines without the cost of that import.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Literal, Protocol, TypeAlias

Finish: TypeAlias = Literal["stop", "length"]

GREEDY_BELOW = 1e-5  # lower temperatures overflow float32, and choose the likeliest token anyway


class Matcher(Protocol):
    """The position of one choice in its grammar.

    Not thread-safe: generating and reading need one each.
    """

    finished: bool  # nothing but an end token may follow

    def allowed(self) -> bytes:
        """The tokens that may come next, as a bit mask, least significant bit first.

        Once finished, only end tokens.
        """
        ...

    def advance(self, token: int) -> None:
        """Moves past `token`. Raises ServerFault if it was not allowed."""
        ...


class Grammar(Protocol):
    """The language an answer is restricted to, compiled for one vocabulary."""

    @property
    def text(self) -> str:
        """The grammar in llguidance's syntax."""
        ...

    def start(self) -> Matcher:
        """A matcher at the start of the grammar."""
        ...


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A request for `n` choices that continue one prompt; greedy at `temperature` 0."""

    prompt: tuple[int, ...]
    max_tokens: int  # per choice; the context may end first. 0: only the prompt's log-probabilities
    eos_ids: frozenset[int]
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None  # None: a different one each time
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its logit)
    top_logprobs: int | None = None  # None: no log-probabilities; 0: the chosen token's only
    prompt_logprobs: bool = False  # the prompt's tokens too; needs at least two of them, and `top_logprobs`
    adapter: Path | None = None  # directory in PEFT's format; None: the bare base
    project: str = ""  # served in rotation with others, and sees only its own prompts in the prefix cache
    background: bool = False  # nobody waits for it: all other requests go first
    grammar: Grammar | None = None  # every choice follows it: see `sampling.Sampler`


@dataclass(frozen=True, slots=True)
class Delta:
    """A token of one choice, the one that ends a turn with `finish` "stop" included.

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
        """Queues the request and returns at once.

        Raises ServiceUnavailable if too many are waiting.
        """
        ...

    def close(self) -> None:
        """Refuses new requests; finishes those under way, then frees the memory."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Waits, after `close`, until all requests are answered; at most `timeout` s."""
        ...


class Generation:
    """The deltas of one request, passed from the engine's thread to the reader.

    The reader iterates (`for` or `deltas_async`); the engine calls `put`, `fail` and `end`. Once it is closed, the
    engine abandons the request at its next step.
    """

    def __init__(self, choices: int) -> None:
        self.cached_tokens = 0  # of the prompt, found in the prefix cache; known with the first delta
        self.prompt: list[Delta] = []  # its tokens from the second on, if requested; complete with the first delta
        self._items: deque[Delta] = deque()
        self._changed = Condition()
        self._wake: Callable[[], None] | None = None
        self._wake_at_end = False
        self._error: BaseException | None = None
        self._ended = False
        self._unwanted: set[int] = set()
        self._choices = choices
        self.on_unwanted: Callable[[], None] = _nothing  # called, on any thread, when a choice is not wanted any more

    def __iter__(self) -> Iterator[Delta]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                batch = self._take()
            if not batch:
                return
            yield from batch

    async def deltas_async(self) -> AsyncIterator[Delta]:
        """The deltas, for a reader on an event loop; no thread waits for them."""
        ready = self._wakes()
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

    async def all_async(self) -> list[Delta]:
        """All deltas, once the last has come, for a reader who needs none of them earlier.

        The engine's thread wakes the event loop once and not with every token: on a machine with few processors each
        time costs the next step some milliseconds.
        """
        ready = self._wakes(at_end=True)
        await ready.wait()
        with self._changed:
            if self._error is not None:
                raise self._error
            return self._take()

    def stop(self, choice: int) -> None:
        """Ends one choice, such as after a stop string; the others continue."""
        self._unwanted.add(choice)
        self.on_unwanted()

    def close(self) -> None:
        """Ends all choices: they will not be read any further."""
        self._unwanted.update(range(self._choices))
        self.on_unwanted()
        self.end()

    def wanted(self, choice: int) -> bool:
        """True until the choice is stopped or the generation closed."""
        return choice not in self._unwanted

    @property
    def closed(self) -> bool:
        """True if no choice is wanted any more."""
        return len(self._unwanted) >= self._choices

    def put(self, deltas: list[Delta]) -> None:
        """Hands deltas to the reader."""
        with self._changed:
            self._items.extend(deltas)
            if not self._wake_at_end:
                self._notify()

    def fail(self, error: BaseException) -> None:
        """Ends all choices; the reader gets `error` after the deltas that came before it."""
        self._unwanted.update(range(self._choices))
        self.on_unwanted()
        with self._changed:
            self._error = error
            self._ended = True
            self._notify()

    def end(self) -> None:
        """Tells the reader that nothing more will come."""
        with self._changed:
            self._ended = True
            self._notify()

    def _wakes(self, *, at_end: bool = False) -> asyncio.Event:
        """Is set, on the running loop, when there is something to read."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ready.set)

        with self._changed:
            self._wake, self._wake_at_end = wake, at_end
            if self._ended or (self._items and not at_end):
                ready.set()
        return ready

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    def _take(self) -> list[Delta]:
        """The deltas that have arrived; raises the engine's error once everything before it was read."""
        batch = list(self._items)
        self._items.clear()
        if not batch and self._error is not None:
            raise self._error
        return batch


def _nothing() -> None:
    return None
