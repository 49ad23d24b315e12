"""Keeps the marks of a template apart from texts that look like them.

In a text that a user, a tool or a row wrote, a special token such as `<|im_end|>` is text. Before such a text goes
through a template, its look-alikes are broken up with a character that occurs nowhere else; what the template writes
itself stays whole. Whoever makes tokens of the result takes the character out again, and reads no mark there.
"""

import re
from collections.abc import Iterable
from typing import TypeVar

from tunesmith.errors import DataError

# Noncharacters: no text should have them, and a template's filters leave them alone.
_CANDIDATES = tuple(chr(code) for code in range(0xFDD2, 0xFDF0))
_Json = TypeVar("_Json")


class Guard:
    """Hides what `marks` finds in the texts of one conversation."""

    def __init__(self, texts: Iterable[str], marks: re.Pattern[str]) -> None:
        self._marks = marks
        found = [text for text in texts if marks.search(text)]
        self.character = _unused(found) if found else ""

    def hide(self, value: _Json, marks: re.Pattern[str] | None = None) -> _Json:
        """A JSON value with every look-alike in its strings and keys broken up."""
        if not self.character:
            return value
        pattern = self._marks if marks is None else marks
        hidden: _Json = _hidden(value, pattern, self.character)  # type: ignore[assignment]
        return hidden

    def is_in(self, text: str) -> bool:
        """Whether a text has look-alikes that are hidden."""
        return bool(self.character) and (self.character in text or _escaped(self.character) in text)

    def reveal(self, text: str) -> str:
        """The text as it was written."""
        if not self.character:
            return text
        return text.replace(self.character, "").replace(_escaped(self.character), "")


def _hidden(value: object, marks: re.Pattern[str], character: str) -> object:
    if isinstance(value, str):
        return marks.sub(lambda found: character.join(found[0]), value)
    if isinstance(value, dict):
        return {_hidden(key, marks, character): _hidden(inner, marks, character) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner, marks, character) for inner in value]
    return value


def _escaped(character: str) -> str:
    """As JSON and Python spell it where they write ASCII only."""
    return f"\\u{ord(character):04x}"


def _unused(texts: list[str]) -> str:
    for character in _CANDIDATES:
        if not any(character in text or _escaped(character) in text for text in texts):
            return character
    raise DataError("The messages contain all of the noncharacters U+FDD2 to U+FDEF. Remove them.", param="messages")
