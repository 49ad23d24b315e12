"""The thought at the start of an answer, between its marks."""

from collections.abc import Sequence


class Thoughts:
    """Splits an answer that arrives in pieces into its thought and the rest.

    Blanks around a thought belong to neither. `begun` is how the prompt ends: the answer goes on with a thought that
    was begun there.
    """

    def __init__(self, marks: Sequence[tuple[str, str]], begun: str = "") -> None:
        self._marks = tuple(marks)
        opened = [closing for opening, closing in marks if begun.rstrip().endswith(opening)]
        self._closing: str | None = opened[0] if opened else None
        self._again = next((opening for opening, closing in marks if [closing] == opened), "")
        self._held = ""
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

    def finish(self) -> tuple[str, str]:
        """What is left, when no more text will come."""
        held, self._held = self._held, ""
        if self._closing is not None and not self._done:
            return (held.strip() if not self._said else held.rstrip()), ""
        return "", "" if self._after and not held.strip() else held

    def _starts(self) -> bool:
        """Looks for an opening mark; whether it is known what the answer begins with."""
        text = self._held.lstrip()
        for opening, closing in self._marks:
            if text.startswith(opening):
                self._held, self._closing = text[len(opening) :], closing
                return True
        if any(opening.startswith(text) for opening, _ in self._marks):
            return False
        self._done = True
        return True

    def _think(self) -> str:
        closing = self._closing or ""
        if not self._said:
            self._held = self._held.lstrip()
            if self._again and self._held.startswith(self._again):  # begun once more
                self._held, self._again = self._held[len(self._again) :].lstrip(), ""
            elif self._again and self._held and self._again.startswith(self._held):
                return ""
        at = self._held.find(closing)
        if at >= 0:
            thought, self._held = self._held[:at].rstrip(), self._held[at + len(closing) :]
            self._closing, self._done, self._after = None, True, True
            return thought
        kept = next(
            (n for n in range(min(len(closing) - 1, len(self._held)), 0, -1) if closing.startswith(self._held[-n:])), 0
        )
        sure = self._held[: len(self._held) - kept].rstrip()
        self._held = self._held[len(sure) :]
        self._said = self._said or bool(sure)
        return sure

    def _rest(self) -> str:
        """What is no thought, without the blanks behind one."""
        if self._after:
            self._held = self._held.lstrip()
            self._after = not self._held
        held, self._held = self._held, ""
        return held
