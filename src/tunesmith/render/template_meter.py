"""What one run of a chat template may cost: steps, text and processor time.

A base's template is a program of a stranger, and a thread that runs one cannot be killed. So the template counts
itself: each round of a loop, call, filter, test, comparison and output is a step, each value that it makes is weighed
before it can be used to make a larger one, and the clock is looked at between steps. The counts are exact, so a
template is refused on every machine or on none; the clock is for what few steps can cost.

What is not covered: a single operation on values within the limits, which takes some hundredths of a second.
"""

import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from jinja2 import TemplateError
from jinja2.utils import Namespace

from tunesmith.system.deadline import check_time

STEPS, STEPS_PER_MESSAGE = 200_000, 2_000
TEXT, TEXT_PER_MESSAGE = 1_000_000, 8_000  # characters of one value
WRITTEN, WRITTEN_PER_MESSAGE = 32_000_000, 32_000  # characters of all values together, so at most some 128 MB
SECONDS, SECONDS_PER_MESSAGE = 0.5, 0.0005  # of the thread's processor time, so that a busy machine does not count
ITEMS = 200_000  # in one value, at all its levels
DEPTH = 64  # of lists in lists, and of filters on filters that have not run yet
BITS = 4096  # of a number; what Python itself writes as decimals ends a little above
ITEM_CHARS = 32  # an item of a list takes as much memory as so many characters
LOOK_EVERY = 64  # steps

_FEW = (type(None), bool, float)
_Inner: TypeAlias = Iterable[object]


class TooMuch(TemplateError):
    """The template has used up what a run may cost."""


@dataclass(frozen=True, slots=True)
class Weight:
    """How much a value holds at all its levels.

    `chars` are those of its text; `depth` is how many levels there are.
    """

    chars: int
    items: int = 1
    depth: int = 0


class Meter:
    """The costs of one run."""

    __slots__ = ("_left", "_look_at", "_seconds", "_steps", "_until", "_written_left", "text")

    def __init__(self, messages: int = 0) -> None:
        self._steps = self._left = STEPS + STEPS_PER_MESSAGE * messages
        self._look_at = self._left - LOOK_EVERY
        self.text = TEXT + TEXT_PER_MESSAGE * messages
        self._written_left = WRITTEN + WRITTEN_PER_MESSAGE * messages
        self._seconds = SECONDS + SECONDS_PER_MESSAGE * messages
        self._until = time.thread_time() + self._seconds

    def step(self, steps: int = 1) -> None:
        """Counts steps. Raises TooMuch where too many were made, or for too long."""
        self._left -= steps
        if self._left < self._look_at:
            self._look()

    def write(self, chars: int) -> None:
        """Counts a new text before it is made, as a step too."""
        self._left -= 1
        if self._left < self._look_at:
            self._look()
        self._written_left -= chars
        if chars > self.text:
            raise TooMuch(f"makes a text of more than {self.text:,} characters")
        if self._written_left < 0:
            raise TooMuch("makes more text than its answer could hold")

    def weigh(self, *values: object) -> Weight:
        """What the values hold together. Raises TooMuch for more than a value may."""
        chars = items = depth = 0
        for value in values:
            if type(value) is str:
                chars, items = chars + len(value), items + 1
                continue
            one = self._weigh(value)
            chars, items, depth = chars + one.chars, items + one.items, max(depth, one.depth)
        self.step(items >> 4)
        if chars > self.text:
            raise TooMuch(f"makes a value of more than {self.text:,} characters")
        return Weight(chars, items, depth)

    def _look(self) -> None:
        if self._left < 0:
            raise TooMuch(f"takes more than {self._steps:,} steps")
        if time.thread_time() > self._until:
            raise TooMuch(f"takes more than {self._seconds:.1f} s")
        check_time()
        self._look_at = max(self._left - LOOK_EVERY, 0)

    def _weigh(self, value: object) -> Weight:
        if isinstance(value, str):
            return Weight(len(value))
        if isinstance(value, _FEW):
            return Weight(24)
        if isinstance(value, int):
            return Weight(_digits(value))
        if isinstance(value, range):  # safe_range's, of at most 100,000 numbers below its limit
            return Weight(8 * len(value), len(value), 1)
        inner = _inner(value, inside=False)
        return Weight(40) if inner is None else self._weigh_levels(inner)

    def _weigh_levels(self, outermost: _Inner) -> Weight:
        chars = items = depth = 0
        level = [outermost]
        while level:
            depth += 1
            below: list[_Inner] = []
            for one in chain.from_iterable(level):
                items += 1
                chars += len(one) if isinstance(one, str) else _digits(one) if isinstance(one, int) else 8
                if items > ITEMS or chars > self.text:
                    raise TooMuch(f"makes a value of more than {ITEMS:,} items or {self.text:,} characters")
                inner = None if isinstance(one, str) else _inner(one, inside=True)
                if inner is not None:
                    below.append(inner)
            level = below
            if depth > DEPTH:
                raise TooMuch(f"puts lists into lists more than {DEPTH} levels deep")
        return Weight(chars + 4 * items, items + 1, depth)


def _digits(number: int) -> int:
    if number.bit_length() > BITS:
        raise TooMuch(f"makes a number of more than {BITS} bits")
    return 2 + number.bit_length() // 3


def _inner(value: object, *, inside: bool) -> _Inner | None:
    """What a value holds; None for a plain one.

    A namespace may change after it was weighed, so it has no place inside another value.
    """
    if isinstance(value, dict):
        return chain(value.keys(), value.values())
    if isinstance(value, (list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items()))):
        return value
    if not isinstance(value, Namespace):
        return None
    if inside:
        raise TooMuch("puts a namespace into another value")
    attributes: dict[str, object] = object.__getattribute__(value, "_Namespace__attrs")
    return attributes.values()


_run: ContextVar[Meter] = ContextVar("run")
meter = _run.get  # of the run in this thread


def begin(messages: int) -> None:
    """Starts a run over so many messages."""
    _run.set(Meter(messages))


def made(value: object) -> object:
    """A new value, weighed.

    What yields items one by one is counted as it does.
    """
    kind = type(value)
    if kind is str:
        meter().write(len(value))  # type: ignore[arg-type]
    elif kind is int:
        meter().step(1 + _digits(value) // BITS)  # type: ignore[arg-type]
    elif kind is bool or kind is range or value is None:
        pass
    elif isinstance(value, str):
        meter().write(len(value))
    elif isinstance(value, Iterator):
        return Counted(value, 1)
    else:
        meter().write(meter().weigh(value).items * ITEM_CHARS)
    return value


def concat(pieces: Iterable[str]) -> str:
    """The text of a template, a block or a macro.

    Raises TooMuch while it is written if it becomes too long.
    """
    kept: list[str] = []
    total, most = 0, meter().text
    for piece in pieces:
        kept.append(piece)
        total += len(piece)
        if total > most:
            raise TooMuch(f"writes more than {most:,} characters")
    meter().write(total)
    return "".join(kept)


class Counted:
    """An iterator whose items are steps.

    `depth`: how many such iterators it draws from, the one through the other.
    """

    __slots__ = ("_items", "depth")

    def __init__(self, items: Iterator[object], depth: int) -> None:
        if depth > DEPTH:
            raise TooMuch(f"puts more than {DEPTH} filters on one another")
        self._items = items
        self.depth = depth

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        meter().step()
        return next(self._items)


def counted(items: Iterable[object]) -> Iterator[object]:
    """The items of a loop, each a step."""
    step = meter().step
    for item in items:
        step()
        yield item


class LimitedNamespace(Namespace):
    """A namespace whose values are weighed."""

    def __setitem__(self, name: str, value: object) -> None:
        check_held(value)
        super().__setitem__(name, value)


def check_held(value: object) -> None:
    """Raises TooMuch for a value that a namespace must not hold."""
    meter().step()
    if not isinstance(value, str):
        meter().weigh((value,))
