"""The thought at the start of an answer, between its marks."""

import re
from collections.abc import Sequence

MOST_THOUGHTS = 64  # of an answer that are taken out of its content
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
        self._trims = True  # whether blanks behind the thought are left out
        self._after = False  # a thought has just ended

    @classmethod
    def within(cls, marks: Sequence[tuple[str, str]]) -> "Thoughts":
        """For a thought within a text, whose blanks are the text's."""
        found = cls(marks)
        found._trims = False
        return found

    @property
    def done(self) -> bool:
        """Whether all that follows is no thought."""
        return self._done and not self._after

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
            self._closing, self._done, self._after = None, True, self._trims
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


class LaterThoughts:
    """Splits what follows the first thought, where further ones may begin.

    Only marks that nobody writes as text begin them: not `<think>`.
    """

    def __init__(self, marks: Sequence[tuple[str, str]]) -> None:
        self._marks = tuple((opening, closing) for opening, closing in marks if _is_token(opening))
        self._first = "".join({opening[0] for opening, _ in self._marks})
        self._longest = max((len(opening) for opening, _ in self._marks), default=0)
        self._now: Thoughts | None = None
        self._begun = False  # a thought of which nothing has been shown
        self._held = ""
        self._left = MOST_THOUGHTS if self._marks else 0

    @property
    def held(self) -> int:
        """Characters of which nothing is known yet."""
        return len(self._held) + (self._now.held if self._now else 0)

    def add(self, text: str) -> tuple[str, str]:
        """(thoughts, rest) that the text adds."""
        if self._now is None and not self._held and not (self._left and any(one in text for one in self._first)):
            return "", text
        thoughts, shown = [], []
        self._held += text
        while self._held:
            if self._now is not None:
                thought, self._held = self._now.add(self._held)
                thoughts.append(self._apart(thought))
                if not self._now.done:
                    break
                self._now = None
                continue
            at, whole = self._opened()
            shown.append(self._held[:at])
            self._held = self._held[at:]
            if not whole:
                break
            self._now, self._left, self._begun = Thoughts.within(self._marks), self._left - 1, True
        return "".join(thoughts), "".join(shown)

    def finish(self, *, cut: bool = False) -> tuple[str, str]:
        """What is left, when no more text will come."""
        held, self._held = self._held, ""
        thought, rest = self._now.finish(cut=cut) if self._now else ("", "")
        return self._apart(thought), rest + held

    def _apart(self, thought: str) -> str:
        """On a line of its own."""
        begun, self._begun = self._begun and bool(thought), self._begun and not thought
        return f"\n{thought}" if begun else thought

    def _opened(self) -> tuple[int, bool]:
        """Where a thought begins, or may with more text; and whether it does."""
        if not self._left:
            return len(self._held), False
        places = [at for opening, _ in self._marks if (at := self._held.find(opening)) >= 0]
        if places:
            return min(places), True
        tail = self._held[-self._longest :]
        if not any(one in tail for one in self._first):
            return len(self._held), False
        return len(self._held) - max(_begun(self._held, opening) for opening, _ in self._marks), False


def _is_token(opening: str) -> bool:
    return opening[0] in "<[" and opening != "<think>"


def _begun(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark`."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)
