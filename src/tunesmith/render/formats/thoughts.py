"""The thought at the start of an answer, between its marks."""

import re
from collections.abc import Sequence

_OPENS = re.compile(r"[\w\n{<\[\]]")  # what follows the mark that opens a call


class Thoughts:
    """Splits an answer that arrives in pieces into its thought and the rest.

    Blanks around a thought belong to neither. `begun` is how the prompt ends: the answer goes on with a thought that
    was begun there. `calls`: the marks that open a block of calls, which end a thought that
    is not closed later; one that is closed may talk of calls. `others`: marks of content;
    where one of them is the first of a thought that the prompt began, there is none.
    """

    def __init__(
        self, marks: Sequence[tuple[str, str]], begun: str = "", calls: Sequence[str] = (), others: Sequence[str] = ()
    ) -> None:
        self._marks = tuple(marks)
        self._calls = tuple(one for one in calls if one[0] in "<[]")
        self._others = tuple(others)
        opened = [closing for opening, closing in marks if begun.rstrip().endswith(opening)]
        self._closing: str | None = opened[0] if opened else None
        self._again = next((opening for opening, closing in marks if [closing] == opened), "")
        self._held = ""
        self._tried = 0  # characters of it in which no closing mark begins
        self._call = -1  # where a block of calls begins in it
        self._done = not marks
        self._said = False  # whether the thought has text
        self._after = False  # a thought has just ended

    @property
    def held(self) -> int:
        """Characters of which nothing is known yet."""
        return len(self._held)

    def add(self, text: str) -> tuple[str, str]:
        """(thought, rest) that the text adds."""
        if self._done and not self._after:
            return "", text
        self._held += text
        thought = ""
        if self._closing is None and not self._done and not self._starts():
            return "", ""
        if self._closing is not None:
            thought = self._think()
            if self._closing is not None:
                return thought, ""
        return thought, self._rest()

    def finish(self, *, cut: bool = False) -> tuple[str, str]:
        """What is left, when no more text will come.

        `cut`: before the answer's end, so a thought may have gone on.
        """
        held, self._held = self._held, ""
        if self._closing is not None and not self._done:
            if self._call >= 0 and not cut:
                return "", held.lstrip()
            return (held.strip() if not self._said else held.rstrip()), ""
        return "", "" if self._after and not held.strip() else held

    def _starts(self) -> bool:
        """Looks for an opening mark; whether it is known what the answer begins with."""
        text = self._held.lstrip()
        if any(opening.startswith(text) and opening != text for opening, _ in self._marks):
            return False
        for opening, closing in self._marks:
            if text.startswith(opening):
                self._held, self._closing = text[len(opening) :], closing
                return True
        for _, closing in self._marks:  # of a thought that was not begun
            if text.startswith(closing):
                self._held, self._done, self._after = text[len(closing) :], True, True
                return True
        if any(mark.startswith(text) for pair in self._marks for mark in pair):
            return False
        self._done = True
        return True

    def _think(self) -> str:
        closing = self._closing or ""
        if not self._said:
            self._held, self._tried = self._held.lstrip(), 0
            if self._again and self._held.startswith(self._again):  # begun once more
                self._held, self._again = self._held[len(self._again) :].lstrip(), ""
            elif self._again and self._held and self._again.startswith(self._held):
                return ""
            if any(self._opened(one) == 0 for one in self._others if self._held.startswith(one)):  # no thought
                self._closing, self._done, self._after = None, True, True
                return ""
        at = self._held.find(closing, self._tried)
        if at >= 0:
            thought, self._held = self._held[:at].rstrip(), self._held[at + len(closing) :]
            self._closing, self._done, self._after = None, True, True
            return thought
        self._tried = max(0, len(self._held) - len(closing) + 1)
        sure = self._held[: self._sure(closing)].rstrip()
        self._held, self._tried = self._held[len(sure) :], max(0, self._tried - len(sure))
        self._said = self._said or bool(sure)
        return sure

    def _sure(self, closing: str) -> int:
        """How many characters are thought, whatever follows."""
        if self._call < 0:
            self._call = min((at for one in self._calls if (at := self._opened(one)) >= 0), default=-1)
        if self._call >= 0:
            at, self._call = self._call, 0
            return at
        waits = next((len(one) for one in self._calls if self._held.endswith(one)), 0)
        return len(self._held) - max(waits, *(_begun(self._held, mark) for mark in (closing, *self._calls)))

    def _opened(self, mark: str) -> int:
        """Where a mark stands that is more than talked about: `<tool_call>` before a blank or a quote is."""
        at = self._held.find(mark)
        while at >= 0 and not _OPENS.match(self._held, at + len(mark)):
            at = self._held.find(mark, at + 1)
        return at

    def _rest(self) -> str:
        """What is no thought, without the blanks behind one."""
        if self._after:
            self._held = self._held.lstrip()
            self._after = not self._held
        held, self._held = self._held, ""
        return held


def _begun(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark`."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)
