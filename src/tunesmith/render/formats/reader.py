"""Reads answers of any form, piece by piece: thoughts, content and calls.

A thought stands at the start of an answer. Calls come out whole, once their block is closed or the answer has ended; a
block that cannot be read is content, so nothing is lost. What is shown does not depend on where the text was cut.
"""

import re
from collections.abc import Sequence

from tunesmith.render.call_forms import CallText
from tunesmith.render.formats.brackets import ListEnd
from tunesmith.render.formats.form import CallForm
from tunesmith.render.formats.harmony import HarmonyReader
from tunesmith.render.formats.table import HARMONY, HERMES
from tunesmith.render.formats.thoughts import LaterThoughts, Thoughts
from tunesmith.render.formats.values import Schemas, schemas_of
from tunesmith.render.tool_call_reader import CallPart, Found, Reader, ReplyPart, ReplyReader
from tunesmith.rows.messages import Tool

MOST_FAILED = 32  # ends within one block that are tried, each of which reads the block anew
_ARGUMENTS = re.compile(r'"(?:arguments|parameters|args|input)"\s*+:')
_JSON = re.compile(r"[\s\[]*+(?:```|\{)")
BEGIN_CHARS = 64  # of a line decide whether a block without a mark begins there


def answer_reader(form: CallForm, tools: Sequence[Tool], *, with_calls: bool, begun: str = "") -> Reader:
    """A reader of one answer.

    `begun`: how its prompt ends; the answer may go on with a thought that began there.
    """
    if form is HARMONY:
        return HarmonyReader(with_calls=with_calls)
    inner: Reader = ReplyReader() if form is HERMES and with_calls else BlockReader(form, schemas_of(tools), with_calls)
    calls = (*form.opens, *form.drops) if with_calls else form.drops
    return _ThoughtfulReader(Thoughts(form.thinks, begun, calls, form.drops), LaterThoughts(form.thinks), inner)


class _ThoughtfulReader:
    """First the thought, then the rest."""

    def __init__(self, thoughts: Thoughts, later: LaterThoughts, inner: Reader) -> None:
        self._thoughts, self._later, self._inner = thoughts, later, inner
        self._thought = False  # whether there is a thought

    @property
    def complete(self) -> int:
        """Calls whose arguments are at their end."""
        return self._inner.complete

    @property
    def held(self) -> int:
        """Characters whose meaning is not known yet."""
        return self._thoughts.held + self._later.held + self._inner.held

    def add(self, text: str) -> ReplyPart:
        """What the text adds to the reply, as far as it is certain."""
        reasoning, rest = self._thoughts.add(text)
        more, rest = self._later.add(rest)
        part = self._inner.add(rest)
        return ReplyPart(part.text, part.calls, self._joined(reasoning, more))

    def finish(self, *, cut: bool = False) -> ReplyPart:
        """Returns what is left of the reply."""
        reasoning, rest = self._thoughts.finish(cut=cut)
        more, rest = self._later.add(rest)
        last, left = self._later.finish(cut=cut)
        part, end = self._inner.add(rest + left), self._inner.finish(cut=cut)
        return ReplyPart(part.text + end.text, part.calls + end.calls, self._joined(reasoning, more + last))

    def _joined(self, first: str, later: str) -> str:
        if not (first or self._thought):
            later = later.removeprefix("\n")
        self._thought = self._thought or bool(first or later)
        return first + later


class BlockReader:
    """Reads blocks of calls between the marks of a form.

    Without calls, it only leaves the other marks out.
    """

    def __init__(self, form: CallForm, schemas: Schemas, with_calls: bool) -> None:
        self._form, self._schemas = form, schemas
        self._opens = form.opens if with_calls else ()
        self._begins = form.begins if with_calls else None
        begins = [begin.format(name) for begin in form.inline for name in schemas]
        self._lists = tuple(begins) if with_calls else ()
        self._list: ListEnd | None = None  # of the list that is being read
        self._held = ""
        self._blank = ""  # blanks before a call: content only if more content follows
        self._opener: str | None = None  # of the block that is being read
        self._failed = 0  # ends of the block up to which it could not be read
        self._tried = 0  # characters of the block that hold no end of it
        self._at_line = True
        self._shown = False  # whether there is content
        self.opened = 0
        self.complete = 0

    @property
    def held(self) -> int:
        """Characters whose meaning is not known yet."""
        return len(self._held)

    def add(self, text: str) -> ReplyPart:
        """What the text adds to the reply, as far as it is certain."""
        self._held += text
        found = Found()
        while self._step(found, last=False):
            pass
        return found.part()

    def finish(self, *, cut: bool = False) -> ReplyPart:
        """Returns what is left of the reply."""
        found = Found()
        while self._step(found, last=True):
            pass
        if self._blank and not self.opened:
            found.text.append(self._blank)
        self._blank = ""
        return found.part()

    def _step(self, found: Found, *, last: bool) -> bool:
        if not self._held:
            return False
        return self._content(found, last=last) if self._opener is None else self._block(found, last=last)

    def _content(self, found: Found, *, last: bool) -> bool:
        """Shows what cannot belong to a call; True when there is more to read."""
        if self._begins is not None and self._at_line and (begun := self._begun_block(last=last)) is not None:
            return begun
        end, mark = self._next_mark()
        if mark is None and not last:
            end = len(self._held) - _partial(self._held, (*self._opens, *self._lists, *self._form.drops))
        line = self._held.find("\n", 0, end) if self._begins is not None else -1
        if line >= 0:
            end, mark = line + 1, None
        self._show(self._held[:end], found)
        if end:
            self._at_line = self._held[end - 1] == "\n"
        self._held = self._held[end:] if mark is None else self._held[end + len(mark) :]
        if mark in (*self._opens, *self._lists):
            self._opener, self._tried, self._failed = mark, 0, 0
            self._list = ListEnd(mark) if mark in self._lists else None
        return mark is not None or line >= 0

    def _begun_block(self, *, last: bool) -> bool | None:
        """Whether a block without a mark begins here; None where none does."""
        text = self._held.lstrip()
        if text[:1] not in ("{", "[", "`") and text:
            return None
        if len(text) < BEGIN_CHARS and not last:
            return False
        if self._begins is None or not self._begins.match(text[:BEGIN_CHARS]) or self._is_listed(text):
            return None
        self._list = None
        self._opener, self._tried, self._failed = "", 0, 0
        return True

    def _is_listed(self, text: str) -> bool:
        """Whether a list of Python calls begins here, which may be followed by more than calls."""
        return text.startswith("[") and text.startswith(self._lists)

    def _next_mark(self) -> tuple[int, str | None]:
        places = [(self._held.find(mark), mark) for mark in (*self._opens, *self._lists, *self._form.drops)]
        return min(((at, mark) for at, mark in places if at >= 0), default=(len(self._held), None))

    def _block(self, found: Found, *, last: bool) -> bool:
        """Reads the block up to its end; True when there is more to read."""
        if self._list is not None:
            return self._listed(self._list, found, last=last)
        closes = self._form.closes or self._opens
        at, close = min(
            ((at, one) for one in closes if (at := self._held.find(one, self._tried)) >= 0), default=(-1, "")
        )
        if at >= 0:
            if self._closes_pairs(at) and self._take(self._held[:at], found):
                self._held = self._held[at if close in self._opens else at + len(close) :]
                return True
            self._tried = at + len(close)
            self._failed += 1
            if self._failed > MOST_FAILED:
                self._give_up(found)
            return True
        if not last:
            self._tried = max(self._tried, len(self._held) - max(map(len, closes), default=1) + 1)
            return False
        if not self._take(self._held, found):
            self._give_up(found)
        else:
            self._held = ""
        return bool(self._held)

    def _listed(self, end: ListEnd, found: Found, *, last: bool) -> bool:
        """Reads a list of calls within a text, like `_block`."""
        at = end.find(self._held)
        if at < 0 and not last:
            return False
        at = len(self._held) if at < 0 else at
        if not self._take(self._held[:at], found):
            self._show((self._opener or "") + self._held[:at], found)
            self._opener, self._at_line = None, False
        self._held, self._list = self._held[at:], None
        return True

    def _closes_pairs(self, end: int) -> bool:
        if self._form.pair is None:
            return True
        begun, ended = (self._held.rfind(one, 0, end) for one in self._form.pair)
        return begun <= ended

    def _take(self, body: str, found: Found) -> bool:
        """Takes in the calls of a block; whether there are any."""
        if self._list is not None or (self._opener or "").endswith("="):
            body = f"{self._opener}{body}"
        read = self._form.read(body, self._schemas)
        if read is None or not read[0] or not self._is_meant(body, read[0]):
            return False
        calls, rest = read
        for call in calls:
            self._call(call, found)
        self._opener, self._at_line = None, False
        if rest.strip():
            self._show(rest, found)
        return True

    def _is_meant(self, body: str, calls: Sequence[CallText]) -> bool:
        """Whether what stands there without a mark is more than an answer in JSON, such as `{"name": "Ada"}`."""
        if self._opener or not _JSON.match(body):
            return True
        return all(call.name in self._schemas for call in calls) or _ARGUMENTS.search(body) is not None

    def _call(self, call: CallText, found: Found) -> None:
        found.calls += [CallPart(self.opened, "", call.name), CallPart(self.opened, call.arguments)]
        self.opened += 1
        self.complete += 1
        self._blank = ""

    def _give_up(self, found: Found) -> None:
        """At the end of an answer: the block is content up to its first end, and what follows is read anew."""
        closes = [one for one in self._form.closes if one not in self._opens]
        ends = [at + len(one) for one in closes if (at := self._held.find(one)) >= 0]
        end = min(ends, default=len(self._held))
        self._show((self._opener or "") + self._held[:end], found)
        self._held, self._opener, self._at_line = self._held[end:], None, False

    def _show(self, text: str, found: Found) -> None:
        shown = text.rstrip()
        if shown:
            leading = self._blank + shown
            found.text.append(leading.lstrip() if self.opened and not self._shown else leading)
            self._blank, self._shown = "", True
        self._blank += text[len(shown) :]


def _partial(text: str, marks: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins a mark."""
    longest = max((len(mark) - 1 for mark in marks), default=0)
    for length in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in marks):
            return length
    return 0
