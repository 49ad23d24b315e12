"""Reads an assistant's text back, piece by piece: content, and calls that stream.

A call begins where `<tool_call>` + {"name": …, "arguments": { has been read; from there on its arguments come out as
they arrive, byte for byte, to the bracket that closes them, whatever their strings contain. A second call may follow in
the same tag. Calls written in another way (`render.call_forms`) come out whole, once `</tool_call>`, the next
`<tool_call>` or the end of the text is there. What only looks like a call is content.

What is not covered: arguments that stream are not checked to be JSON; where the text ends within them, they are cut.
What stands behind a call in its tag and is no call is left out.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tunesmith.render.call_forms import CallText, read_calls
from tunesmith.render.tool_text import CALL_START, CALL_TAG_END

_OPENING = re.compile(r'\n?\{"name": ("(?:[^"\\]|\\.)+"), "(?:arguments|parameters)": (?=[{\[])')
_NAMED = '\n{"name": "'
_ANOTHER = re.compile(r"\}[\s,;]*(?=\{)")  # from the end of a call to the next one in its tag
_MARK = re.compile(r'["\\{}\[\]<]')  # what a scan of arguments has to look at


@dataclass(frozen=True, slots=True)
class CallPart:
    """More of call number `index`; the first part has its name."""

    index: int
    arguments: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What an assistant's text says.

    Its content (None when it is calls alone) and its calls.
    """

    content: str | None
    calls: tuple[CallText, ...]
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class ReplyPart:
    """What a piece of text adds to a reply."""

    text: str = ""
    calls: tuple[CallPart, ...] = ()
    reasoning: str = ""


class Reader(Protocol):
    """Reads a reply that arrives in pieces.

    What it found does not depend on where the text was cut.
    """

    @property
    def complete(self) -> int:
        """Calls whose arguments are at their end."""

    @property
    def held(self) -> int:
        """Characters whose meaning is not known yet."""

    def add(self, text: str) -> ReplyPart:
        """What the text adds to the reply, as far as it is certain."""

    def finish(self, *, cut: bool = False) -> ReplyPart:
        """Returns what is left of the reply. `cut`: it was not at its end."""


def parse_reply(text: str, reader: Reader | None = None) -> ParsedReply:
    """What a whole text says.

    Without a reader, this is the reverse of `tool_text.assistant_text`.
    """
    reader = reader or ReplyReader()
    parts = [reader.add(text), reader.finish()]
    content = "".join(part.text for part in parts)
    calls = [call for part in parts for call in part.calls]
    whole = [
        CallText(opened.name, "".join(part.arguments for part in calls if part.index == opened.index))
        for opened in calls
        if opened.name is not None
    ]
    reasoning = "".join(part.reasoning for part in parts) or None
    return ParsedReply(content if content or not whole else None, tuple(whole), reasoning)


class ReplyReader:
    """Reads a reply that arrives in pieces.

    Give it each with `add`, then call `finish`; the joined parts do not depend on where the text was cut.
    """

    def __init__(self) -> None:
        self._held = ""  # not yet known to be content or call
        self._newlines = ""  # line breaks before a call: content only if more content follows
        self._state: Callable[[Found], bool] = self._content
        self._follows = False  # another call in its tag
        self._tried = 0  # characters between two opening tags that are known to be no call
        self._scan = _Arguments()
        self.opened = 0  # calls whose name is known
        self.complete = 0  # calls whose arguments are at their end

    @property
    def held(self) -> int:
        """Characters whose meaning is not known yet."""
        return len(self._held)

    def add(self, text: str) -> ReplyPart:
        """What the text adds to the reply, as far as it is certain."""
        self._held += text
        found = Found()
        while self._state(found):
            pass
        return found.part()

    def finish(self, *, cut: bool = False) -> ReplyPart:
        """Returns what is left of the reply.

        Of a text that was `cut`, the beginning of a call is not shown as content.
        """
        found = Found()
        if self._state == self._content:
            begun = _begun(self._held, CALL_START)
            self._finish_content(self._held[:-begun] if cut and begun > 1 else self._held, found)
        elif self._state == self._opening:
            self._finish_opening(found, cut=cut)
        self._held = self._newlines = ""
        return found.part()

    def _finish_content(self, text: str, found: "Found") -> None:
        if self.opened:
            self._show(text.rstrip("\n"), found)
        else:
            found.text.append(self._newlines + text)

    def _finish_opening(self, found: "Found", *, cut: bool) -> None:
        if not (self._read_whole(self._held, found) or self._follows or (cut and self._opens())):
            self._show(CALL_START + self._held, found)

    def _opens(self) -> bool:
        """Whether this can only be a call.

        Inside a JSON string it could not occur: its quotes would be escaped there.
        """
        return self._held.startswith(_NAMED) or _NAMED.startswith(self._held)

    def _content(self, found: "Found") -> bool:
        """Shows what cannot belong to a call; True when a call's tag has been read."""
        start = self._held.find(CALL_START)
        end = start if start >= 0 else len(self._held) - _begun(self._held, CALL_START)
        text = self._held[:end]
        shown = text.rstrip("\n")
        self._show(shown, found)
        if start < 0:
            self._held = self._held[len(shown) :]
            return False
        self._newlines += text[len(shown) :]
        self._held = self._held[start + len(CALL_START) :]
        self._state, self._follows, self._tried = self._opening, False, 0
        return True

    def _opening(self, found: "Found") -> bool:
        opening = _OPENING.match(self._held)
        name = _string(opening[1]) if opening else None
        if opening is not None and name is not None:
            found.calls.append(CallPart(self.opened, "", name))
            self.opened += 1
            self._held, self._scan, self._state = self._held[opening.end() :], _Arguments(), self._arguments
            return True
        if self._read_unclosed(found):
            return True
        body, tag, rest = self._held.partition(CALL_TAG_END)
        if not tag:
            return False
        if not self._read_whole(body, found) and not self._follows:
            self._show(CALL_START + body + CALL_TAG_END, found)
        self._held, self._state = rest, self._content
        return True

    def _read_unclosed(self, found: "Found") -> bool:
        """Takes in calls whose tag is not closed before the next one opens; whether there are any."""
        end = self._held.find(CALL_START)
        if end <= self._tried or CALL_TAG_END in self._held[:end]:
            return False
        if not self._read_whole(self._held[:end], found):
            self._tried = end
            return False
        self._held, self._state = self._held[end:], self._content
        return True

    def _read_whole(self, body: str, found: "Found") -> bool:
        """Takes in the calls of a body that does not open as ours do; whether there are any."""
        calls = read_calls(body)
        for call in calls:
            found.calls += [CallPart(self.opened, "", call.name), CallPart(self.opened, call.arguments)]
            self.opened += 1
            self.complete += 1
        return bool(calls)

    def _arguments(self, found: "Found") -> bool:
        length, ended = self._scan.feed(self._held)
        self._more_arguments(self._held[:length], found)
        self._held = self._held[length:]
        if ended:
            self.complete += 1
            self._state = self._closing
        return ended

    def _closing(self, found: "Found") -> bool:
        """From the last bracket of the arguments to behind the call's closing tag; space in between is theirs."""
        after = self._held.lstrip()
        if after.startswith("}"):
            self._more_arguments(self._held[: len(self._held) - len(after)], found)
            self._held = after
        if another := _ANOTHER.match(self._held):
            self._held, self._state, self._follows = self._held[another.end() :], self._opening, True
            return True
        ends = [place for tag in (CALL_TAG_END, CALL_START) if (place := self._held.find(tag)) >= 0]
        if ends:
            self._held, self._state = self._held[min(ends) :].removeprefix(CALL_TAG_END), self._content
        return bool(ends)

    def _more_arguments(self, text: str, found: "Found") -> None:
        if text:
            found.calls.append(CallPart(self.opened - 1, text))

    def _show(self, text: str, found: "Found") -> None:
        if text:
            found.text.append(self._newlines + text)
            self._newlines = ""


@dataclass(slots=True)
class Found:
    """What a reader has found so far."""

    text: list[str] = field(default_factory=list)
    calls: list[CallPart] = field(default_factory=list)

    def part(self) -> ReplyPart:
        """It, as a part of the reply."""
        return ReplyPart("".join(self.text), tuple(self.calls))


class _Arguments:
    """Finds the end of a JSON object or array that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> tuple[int, bool]:
        """(characters that belong to it, whether it ended).

        A `<` outside of its strings ends it: that is not JSON.
        """
        position = 0
        if self._escaped and text:
            position, self._escaped = 1, False
        while mark := _MARK.search(text, position):
            position = mark.end()
            if self._in_string:
                position += self._read_in_string(mark[0], last=position == len(text))
            elif mark[0] == "<":
                return mark.start(), True
            elif self._ends(mark[0]):
                return position, True
        return len(text), False

    def _read_in_string(self, mark: str, *, last: bool) -> int:
        """Takes in a mark within a string; how many characters after it are escaped by it."""
        if mark == '"':
            self._in_string = False
        elif mark == "\\":
            self._escaped = last
            return 0 if last else 1
        return 0

    def _ends(self, mark: str) -> bool:
        """Takes in a mark outside of strings; whether it is the bracket that closes the whole."""
        if mark == '"':
            self._in_string = True
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]":
            self._depth -= 1
            return self._depth == 0
        return False


def _begun(text: str, tag: str) -> int:
    """Length of the longest end of `text` that begins `tag`."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)


def _string(text: str) -> str | None:
    try:
        return str(json.loads(text))
    except ValueError:
        return None
