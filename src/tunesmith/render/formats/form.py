"""What a form of calls is: its marks, and how what is between them is read."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tunesmith.render.call_forms import CallText
from tunesmith.render.formats.values import Schemas

Calls: TypeAlias = tuple[tuple[CallText, ...], str]  # the calls, and the text behind them
ReadBody: TypeAlias = Callable[[str, Schemas], Calls | None]


@dataclass(frozen=True, slots=True)
class CallForm:
    """One form of calls.

    To add one: write a function that reads a block (`formats.bodies` has many), and an entry in `formats.table`.

    `sign`: found in what a template of this form writes for a call. `opens` begin a block of calls and `closes` end it;
    without the latter it reaches to the next block or the end of the answer. `begins`: a block without a mark, at the
    start of a line. `read`: the calls of a block, None where it is none. `thinks`: the marks around a thought. `drops`:
    marks that are shown nowhere. `inner`: those within a block. `pair`: no block ends between the two. `inline`: how
    calls of a declared function begin that may stand anywhere in a text, `[{}(` for example.
    """

    name: str
    sign: re.Pattern[str]
    read: ReadBody
    opens: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()
    begins: re.Pattern[str] | None = None
    thinks: tuple[tuple[str, str], ...] = (("<think>", "</think>"),)
    drops: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    pair: tuple[str, str] | None = None
    inline: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """All that must reach a reader of this form."""
        return (*self.opens, *self.closes, *self.drops, *self.inner, *(mark for pair in self.thinks for mark in pair))
