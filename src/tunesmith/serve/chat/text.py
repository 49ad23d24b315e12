"""The tokens of one choice -> the text that may be shown.

That is whole characters, nothing of a stop string, and calls as they are written. A character that is not whole when
the answer ends is left out; its tokens have their log-probabilities all the same.

Log-probabilities travel with the text of their token: an entry comes out once it is settled what a character of its
token is. Stop strings are looked for in the content, not inside of calls: a caller does not see how those are spelled.
"""

from collections import deque
from dataclasses import dataclass

from tunesmith.render.rendered import Opening
from tunesmith.render.renderer import Renderer
from tunesmith.render.tool_call_reader import CallPart, ReplyPart
from tunesmith.serve.chat.opening import OpeningFilter
from tunesmith.serve.chat.stops import StopFilter
from tunesmith.serve.engine.protocol import Delta, Finish, Grammar


@dataclass(frozen=True, slots=True)
class TextPart:
    """What one token brought to light. `finish` comes with the last part."""

    text: str
    tokens: tuple[tuple[int, Delta], ...] = ()  # whose log-probabilities belong to this part; characters before each
    finish: Finish | None = None
    calls: tuple[CallPart, ...] = ()
    reasoning: str = ""


class ChoiceText:
    """The text of one choice.

    `single_call`: the answer ends with its first call. A `grammar` ends it where nothing more may follow. `opening`:
    what the model may write before it.
    """

    def __init__(
        self,
        renderer: Renderer,
        stops: tuple[str, ...],
        *,
        with_tools: bool,
        single_call: bool = False,
        grammar: Grammar | None = None,
        opening: Opening | None = None,
    ) -> None:
        self._opening = OpeningFilter(opening)
        self._detokenizer = renderer.detokenizer()
        self._stops = StopFilter(stops)
        self._reader = renderer.reader(opening, with_calls=with_tools, held=grammar is not None)
        self._single_call = single_call
        self._matcher = None if grammar is None else grammar.start()
        self._pending: deque[tuple[int, Delta]] = deque()  # (characters before the token, token)
        self._decoded = 0
        self.tokens = 0  # generated, without the one that ends a turn
        self.reasoning_tokens = 0  # of them, those that belong to a thought
        self.called = False
        self.finished = False

    def add(self, delta: Delta) -> TextPart:
        """The part that `delta` makes visible, often empty.

        Nothing may be added once `finished`.
        """
        finish = delta.finish
        text, certain = self._opening.flush() if finish == "stop" else self._opening.add(delta)
        for one in certain:
            self._pending.append((self._decoded + len(text), one))
            text += self._detokenizer.add(one.token)
        if finish != "stop":
            self.tokens += 1
            if self._ends_grammar(delta.token):
                finish = "stop"
        self._decoded += len(text)
        read = self._read(text, finish)
        if read.reasoning and not read.text and not read.calls:
            self.reasoning_tokens = self.tokens  # a thought comes first
        return self._part(read, finish)

    def _ends_grammar(self, token: int) -> bool:
        if self._matcher is None:
            return False
        self._matcher.advance(token)
        return self._matcher.finished

    def _read(self, text: str, finish: Finish | None) -> ReplyPart:
        if self._reader is None:
            return ReplyPart(text)
        part = self._reader.add(text)
        if finish is None:
            return part
        rest = self._reader.finish(cut=finish == "length")
        return ReplyPart(part.text + rest.text, part.calls + rest.calls, part.reasoning + rest.reasoning)

    def _part(self, read: ReplyPart, finish: Finish | None) -> TextPart:
        waiting = self._stops.held + len(read.text)
        text = self._stops.add(read.text)
        unsettled = waiting - len(text) + (0 if self._reader is None else self._reader.held)
        if self._stops.stopped:
            self.finished = True
            return TextPart(text, self._release(self._decoded - unsettled), "stop", reasoning=read.reasoning)
        self.called = self.called or bool(read.calls)
        calls = read.calls
        if self._single_call and self._reader is not None and self._reader.complete:
            finish, calls = "stop", tuple(call for call in calls if call.index == 0)
        if finish is None:
            return TextPart(text, self._release(self._decoded - unsettled), None, calls, read.reasoning)
        self.finished = True
        return TextPart(text + self._stops.flush(), self._release(self._decoded + 1), finish, calls, read.reasoning)

    def _release(self, settled: int) -> tuple[tuple[int, Delta], ...]:
        tokens = []
        while self._pending and self._pending[0][0] < settled:
            tokens.append(self._pending.popleft())
        return tuple(tokens)
