"""GPT-OSS' channels.

Analysis is thought, commentary to a function is a call, and what is left is content.

`<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.NAME
<|constrain|>json<|message|>{…}<|call|>`; the recipient may stand before the channel, too.
"""

import re

from tunesmith.render.tool_call_reader import CallPart, ReplyPart

MARKS = ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>")
_HEADER = re.compile(r"(?:<\|start\|>\w*+)?+((?:(?!<\|message\|>).)*+)<\|message\|>", re.DOTALL)
_RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]++)")
_PEOPLE = frozenset({"assistant", "all", "user"})  # what is sent to others is a call, and never content
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>")
_STARTS = ("<|start|>", "<|channel|>", " to=", "to=")


class HarmonyReader:
    """Reads messages of channels that arrive in pieces."""

    def __init__(self, *, with_calls: bool) -> None:
        self._with_calls = with_calls
        self._held = ""
        self._kind = ""  # of the message being read: "analysis", "call", "content", "other"; "" in a header
        self._said: dict[str, bool] = {}
        self.opened = 0
        self.complete = 0

    @property
    def held(self) -> int:
        """Characters whose meaning is not known yet."""
        return len(self._held)

    def add(self, text: str) -> ReplyPart:
        """What the text adds to the reply, as far as it is certain."""
        return self._read(text, last=False)

    def finish(self, *, cut: bool = False) -> ReplyPart:
        """Returns what is left of the reply."""
        part = self._read("", last=True)
        if self._kind == "call" and not cut:
            self.complete = self.opened
        return part

    def _read(self, text: str, *, last: bool) -> ReplyPart:
        self._held += text
        parts: list[ReplyPart] = []
        while (part := self._step(last=last)) is not None:
            parts.append(part)
        return ReplyPart(
            "".join(part.text for part in parts),
            tuple(call for part in parts for call in part.calls),
            "".join(part.reasoning for part in parts),
        )

    def _step(self, *, last: bool) -> ReplyPart | None:
        if not self._held:
            return None
        return self._message(last=last) if self._kind else self._header(last=last)

    def _header(self, *, last: bool) -> ReplyPart | None:
        text = self._held
        if not any(text.startswith(one) or one.startswith(text) for one in _STARTS):
            if text.isspace() and not last:
                return None
            self._kind = "content"  # a model that forgot its channels
            return ReplyPart()
        found = _HEADER.match(text)
        if found is None:
            if not last:
                return None
            self._held = ""
            return ReplyPart("" if text.startswith("<|") else text)
        self._held = text[found.end() :]
        recipient, header = _RECIPIENT.search(found[1]), found[1]
        if recipient is not None and recipient[1] not in _PEOPLE and self._with_calls:
            self._kind = "call"
            self.opened += 1
            return ReplyPart(calls=(CallPart(self.opened - 1, "", recipient[1]),))
        if recipient is not None and recipient[1] not in _PEOPLE:
            self._kind = "other"
            return ReplyPart()
        self._kind = "analysis" if "analysis" in header else "content"
        return self._between()

    def _between(self) -> ReplyPart:
        """A line break between two messages of a kind."""
        again, self._said[self._kind] = self._said.get(self._kind, False), True
        if not again:
            return ReplyPart()
        return ReplyPart(reasoning="\n") if self._kind == "analysis" else ReplyPart("\n")

    def _message(self, *, last: bool) -> ReplyPart | None:
        end, mark = min(
            ((at, one) for one in _ENDS if (at := self._held.find(one)) >= 0), default=(len(self._held), "")
        )
        if not mark and not last:
            end -= _partial(self._held)
        text = self._held[:end]
        if not mark and not text and not last:
            return None
        self._held = self._held[end if mark == "<|start|>" else end + len(mark) :]
        part = self._part(text)
        if mark:
            if self._kind == "call":
                self.complete = self.opened
            self._kind = ""
        return part if mark or text else None

    def _part(self, text: str) -> ReplyPart:
        if self._kind == "analysis":
            return ReplyPart(reasoning=text)
        if self._kind == "call":
            return ReplyPart(calls=(CallPart(self.opened - 1, text),) if text else ())
        return ReplyPart(text if self._kind == "content" else "")


def _partial(text: str) -> int:
    longest = max(map(len, _ENDS)) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(one.startswith(text[-length:]) for one in _ENDS):
            return length
    return 0
