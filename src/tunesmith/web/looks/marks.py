"""Where a finding's place stands in the text of its row.

`messages[2].content` is looked up in the JSON text itself, so that the user sees the row as it is in the file;
`column 7` is the character where a line stops being JSON.
"""

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

from tunesmith.check.report.mask_preview import visible
from tunesmith.jsonvalue import JsonObject

AROUND = 180  # characters on each side of the mark
MARKED = 240  # at most, of a marked text
WHOLE = 480  # of a row without a mark

Step: TypeAlias = str | int
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SPACE = re.compile(r"\s*+")
_SCALAR = re.compile(r"[^\s,\]}]*+")
_MARKS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)  # a text may not end


@dataclass(frozen=True, slots=True)
class Marked:
    """A row's text around the marked place.

    `more_before` and `more_after` say where text is left out.
    """

    before: str
    mark: str
    after: str
    more_before: bool = False
    more_after: bool = False

    def to_json(self) -> JsonObject:
        """As it goes through the pipe."""
        return {
            "before": self.before,
            "mark": self.mark,
            "after": self.after,
            "more_before": self.more_before,
            "more_after": self.more_after,
        }


def marked(text: str, path: str) -> Marked:
    """The text with the place marked, shortened around it.

    Without a place, its beginning.
    """
    span = span_of(text, path)
    if span is None:
        return Marked(visible(text[:WHOLE]), "", "", more_after=len(text) > WHOLE)
    start, end = span
    stop = min(end, start + MARKED)
    first, last = max(0, start - AROUND), min(len(text), stop + AROUND)
    if stop < end:  # the marked text itself is cut
        last = stop
    return Marked(
        visible(text[first:start]), visible(text[start:stop]), visible(text[stop:last]), first > 0, last < len(text)
    )


def span_of(text: str, path: str) -> tuple[int, int] | None:
    """The characters of the value at a path.

    Of a value that is missing, those of what should have it. None where the path
    names no place, or the text is not JSON.
    """
    if path.startswith("column "):
        at = min(max(0, int(path.removeprefix("column ").split()[0]) - 1), max(0, len(text) - 1))
        return (at, at + 1) if text else None
    steps: list[Step] = [int(index) if index else key for index, key in _STEP.findall(path)]
    if not steps:
        return None
    try:
        return _walk(text, steps)
    except (IndexError, ValueError):
        return None


def _walk(text: str, steps: list[Step]) -> tuple[int, int] | None:
    at = _space(text, 0)
    for number, step in enumerate(steps):
        found = _element(text, at, step) if isinstance(step, int) else _member(text, at, step)
        if found is None:
            return None if number == 0 else (at, _end(text, at))
        at = found
    return at, _end(text, at)


def _member(text: str, at: int, key: str) -> int | None:
    """Where the value of a key begins; None where there is no such key."""
    if text[at] != "{":
        return None
    at = _space(text, at + 1)
    while text[at] == '"':
        name = _TEXT.match(text, at)
        if name is None:
            raise ValueError(at)
        value = _space(text, _space(text, name.end()) + 1)
        if json.loads(name.group(), strict=False) == key:
            return value
        at = _space(text, _end(text, value))
        at = _space(text, at + 1) if text[at] == "," else at
    return None


def _element(text: str, at: int, index: int) -> int | None:
    if text[at] != "[":
        return None
    at = _space(text, at + 1)
    for _ in range(index):
        at = _space(text, _end(text, at))
        if text[at] != ",":
            return None
        at = _space(text, at + 1)
    return None if text[at] == "]" else at


def _end(text: str, at: int) -> int:
    """The end of the value that begins at a place."""
    if text[at] in "{[":
        depth = 0
        for token in _MARKS.finditer(text, at):
            depth += (token.group() in "{[") - (token.group() in "}]")
            if depth == 0:
                return token.end()
        raise ValueError(at)
    found = (_TEXT if text[at] == '"' else _SCALAR).match(text, at)
    if found is None or found.end() == at:
        raise ValueError(at)
    return found.end()


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
