"""Tokens of what a template wrote, and which of them are learned."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tunesmith.render.chat_template import ChatTemplate
from tunesmith.render.native.call_words import call_text, call_words, form_read
from tunesmith.render.native.conversation import Conversations, Span, Variables, Written
from tunesmith.render.native.habits import Habits
from tunesmith.render.vocabulary import Vocabulary
from tunesmith.rows.messages import Message, Tool

_CLOSING = ">]｜"
MARK_CHARS = 100  # no mark is longer


class NativeTokens:
    """Prompts and examples of a base whose template knows tools.

    A prompt has the tokens that its whole text has, as in transformers; an answer's are made apart from it, as a model
    writes it. An answer shares an example with a later one only where that makes no difference. `ends`: the tokens that
    end an answer.
    """

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary, habits: Habits, eos_ids: set[int]) -> None:
        self._vocabulary, self._drops_text = vocabulary, habits.drops_text
        # GPT-OSS' template has one place for both; see `messages`.
        self._one_beside = "reasoning_content" not in template.text and "thinking" in template.text
        self._conversations = Conversations(template, vocabulary, habits, eos_ids)
        self.ends = self._conversations.ends.ids
        called = self._conversations.ends.cut_mark(call_text(template, habits))
        self.form = form_read(called, template.text, vocabulary.any_mark)
        self.marks = vocabulary.any_of(self.form.marks)
        self.words = call_words(template, habits, self.form, self._conversations.ends)

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Tool], variables: Variables | None = None
    ) -> list[int]:
        """What the model is given to answer `messages`."""
        return self._ids(self._conversations.prompt(messages, tools, variables))[0]

    def examples(
        self, messages: Sequence[Message], tools: Sequence[Tool], learn_from: int
    ) -> list[tuple[list[int], list[float]]]:
        """(ids, weights) of each example that a row makes."""
        learned = [
            at
            for at, message in enumerate(messages)
            if at >= learn_from and message.role == "assistant" and message.weight != 0
        ]
        return [self._ids(one) for one in self._conversations.examples(messages, tools, learned, self._is_seamless)]

    def left_out(self, messages: Sequence[Message]) -> list[tuple[int, str]]:
        """The messages of which text or reasoning beside calls is left out, and which."""
        beside = [(at, one) for at, one in enumerate(messages) if one.tool_calls and one.content]
        if self._drops_text:
            return [(at, "text") for at, _ in beside]
        return [(at, "reasoning") for at, one in beside if self._one_beside and one.reasoning_content]

    def _is_seamless(self, written: Written, place: int) -> bool:
        """Whether a text has the same tokens when it is cut at `place`.

        Tokens reach from one mark to the next at most, so only these characters are looked at.
        """
        text, marks = written.text, self._vocabulary.any_mark
        before = max(text.rfind(bracket, 0, place) for bracket in _CLOSING) + 1
        mark = next(
            (one for one in marks.finditer(text, max(0, before - MARK_CHARS), place) if one.end() == before), None
        )
        if mark is None or before == place:
            return mark is not None
        following = marks.search(text, place)
        stop = following.start() if following else len(text)
        start = [self._vocabulary.id_of(mark[0]) or 0]
        whole, cut = [*start], [*start]
        self._add(whole, written, text[before:stop])
        opening = text[before:place]
        if written.guard.is_in(opening) or len(opening) > MARK_CHARS:
            self._add(cut, written, opening)
        else:
            cut += self._vocabulary.after(cut, opening, "literal")  # which recurs
        self._add(cut, written, text[place:stop])
        return whole == cut

    def _ids(self, written: Written) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        weights: list[float] = []
        for start, stop, learned in self._pieces(written.text, written.learned):
            self._add(ids, written, written.text[start:stop])
            weights += [float(learned)] * (len(ids) - len(weights))
        return ids, weights

    def _pieces(self, text: str, spans: Sequence[Span]) -> Iterator[tuple[int, int, bool]]:
        places = sorted({0, len(text), *(place for span in spans for place in (span.start, span.stop))})
        for start, stop in pairwise(places):
            yield start, stop, any(span.start <= start < span.stop for span in spans)

    def _add(self, ids: list[int], written: Written, piece: str) -> None:
        if not written.guard.is_in(piece):
            ids += self._vocabulary.after(ids, piece, "written")
            return
        at = 0
        for mark in self._vocabulary.any_mark.finditer(piece):
            self._add_text(ids, written, piece[at : mark.start()])
            ids += self._vocabulary.after(ids, mark[0], "literal")
            at = mark.end()
        self._add_text(ids, written, piece[at:])

    def _add_text(self, ids: list[int], written: Written, text: str) -> None:
        if text:
            ids += self._vocabulary.after(ids, written.guard.reveal(text), "content")
