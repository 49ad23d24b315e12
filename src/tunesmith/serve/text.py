"""Tokens of one choice -> text that may be shown: whole characters, nothing of a stop string, nothing of a tool call.

Log-probabilities travel with the text of their token: an entry comes out once a character of its token has.
"""

from collections import deque
from dataclasses import dataclass

from tunesmith.data.render import Renderer
from tunesmith.data.tool_text import CALL_START, CallText
from tunesmith.serve.engine import Delta, Finish
from tunesmith.serve.stops import StopFilter


@dataclass(frozen=True, slots=True)
class TextPart:
    """What one token brought to light. `finish` and `calls` come with the last part."""

    text: str
    tokens: tuple[Delta, ...] = ()  # those whose log-probabilities belong to this part
    finish: Finish | None = None
    calls: tuple[CallText, ...] = ()


class ChoiceText:
    def __init__(self, renderer: Renderer, stops: tuple[str, ...], *, with_tools: bool) -> None:
        self._renderer = renderer
        self._detokenizer = renderer.detokenizer()
        self._stops = StopFilter(stops)
        self._tools = with_tools
        self._pending: deque[tuple[int, Delta]] = deque()  # (characters before the token, token)
        self._decoded = 0
        self._passed = ""  # everything behind the stop filter
        self._shown = ""
        self.tokens = 0  # generated, without the one that ends a turn
        self.finished = False

    def add(self, delta: Delta) -> TextPart:
        """The part that `delta` makes visible, often empty. Nothing more may be added once `finished`."""
        text = ""
        if delta.finish != "stop":
            self.tokens += 1
            self._pending.append((self._decoded, delta))
            text = self._detokenizer.add(delta.token)
            self._decoded += len(text)
        if delta.finish is not None:
            text += self._detokenizer.flush()
        self._passed += self._stops.add(text)
        if self._stops.stopped:
            return self._last("stop", tuple(self._release(len(self._passed))))
        if delta.finish is not None:
            self._passed += self._stops.flush()
            return self._last(delta.finish, tuple(token for _, token in self._pending))
        return self._part()

    def _part(self) -> TextPart:
        text = self._show(_safe_length(self._passed) if self._tools else len(self._passed))
        return TextPart(text, tuple(self._release(len(self._shown))))

    def _last(self, finish: Finish, tokens: tuple[Delta, ...]) -> TextPart:
        self.finished = True
        if not self._tools:
            return TextPart(self._show(len(self._passed)), tokens, finish)
        reply = self._renderer.parse(self._passed)
        content, shown = reply.content or "", self._shown if not reply.calls else self._shown.lstrip("\n")
        return TextPart(content.removeprefix(shown) if content.startswith(shown) else "", tokens, finish, reply.calls)

    def _show(self, length: int) -> str:
        text = self._passed[len(self._shown) : length]
        self._shown += text
        return text

    def _release(self, shown: int) -> list[Delta]:
        tokens = []
        while self._pending and self._pending[0][0] < shown:
            tokens.append(self._pending.popleft()[1])
        return tokens


def _safe_length(text: str) -> int:
    """How much of `text` cannot belong to a tool call or to the line breaks before one."""
    start = text.find(CALL_START)
    if start < 0:
        start = len(text)
        for length in range(min(len(CALL_START) - 1, len(text)), 0, -1):
            if CALL_START.startswith(text[-length:]):
                start = len(text) - length
                break
    return len(text[:start].rstrip("\n"))
