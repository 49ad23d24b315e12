"""The marks that end an assistant's turn, plain or with calls."""

import re

from tunesmith.errors import DataError, ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.render.chat_template import ChatTemplate
from tunesmith.render.faults import EndlessTemplate
from tunesmith.render.formats.table import BLOCK_MARKS
from tunesmith.render.native.habits import PLAIN, TOOL, USER, Habits, probe_call, probe_result
from tunesmith.render.vocabulary import Vocabulary

_TRAILING = re.compile(r"\s*")


class TurnEnds:
    """The ends of one template.

    Where it ends an answer with nothing (GLM's), the mark that begins the next turn is the end: a user's after a plain
    answer, a result's after calls.
    """

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary, habits: Habits, eos_ids: set[int]) -> None:
        self._template, self._vocabulary, self._eos_ids = template, vocabulary, eos_ids
        plain = self._first_end(PLAIN, None)
        self._after_plain = plain or self._next_mark(PLAIN, USER, None)
        self._pattern = _any_of([plain])
        called = None
        self._after_call = ""
        if habits.calls:
            message = probe_call(habits)
            called = self._first_end(message, [TOOL])
            self._after_call = called or self._next_mark(message, probe_result(habits), [TOOL])
            self._pattern = _any_of([plain, called])
        ids = {vocabulary.id_of(mark) for mark in (self._after_plain, self._after_call) if mark}
        self.ids = {one for one in ids if one is not None}
        if not self.ids and not eos_ids:
            raise ServerFault(
                "The base's chat template marks the end of the assistant's turn with no special token, so a model"
                " trained with it would not know when to stop. Use an instruct model with such a token."
            )

    def cut(self, said: str, *, called: bool) -> str:
        """What the template wrote for an answer, up to its end."""
        end = self._pattern.search(said)
        if end is not None:
            return said[: end.end()]
        return said + (self._after_call if called else self._after_plain)

    def cut_mark(self, said: str) -> str:
        """What the template wrote for an answer, without its end."""
        end = self._pattern.search(said)
        return said if end is None else said[: end.start()]

    def _first_end(self, message: JsonObject, tools: list[JsonObject] | None) -> str:
        """The mark that ends a message; "" for none.

        It is a known end of texts, or one that ends a user's turn too, or else the first mark behind the message's
        text (the last, if that is a call's, whose text has marks of its own).
        """
        text = self._write([USER, message], tools)
        content = str(message["content"] or "")
        start = text.rindex(content) + len(content) if content else len(self._write([USER], tools))
        found = list(self._vocabulary.any_mark.finditer(text, start))
        if not found:
            return ""
        user_end = self._user_end(text)
        for one in found:
            if self._vocabulary.id_of(one[0]) in self._eos_ids or one[0] == user_end:
                return one[0]
        last = found[0] if content else found[-1]
        said = self._vocabulary.special_mark.fullmatch(last[0]) is None
        said = said or last[0] in BLOCK_MARKS
        return "" if said or text[last.end() :].strip() else last[0]

    def _user_end(self, text: str) -> str:
        asked = str(USER["content"])
        found = self._vocabulary.any_mark.search(text, text.rindex(asked) + len(asked))
        between = text[text.rindex(asked) + len(asked) : found.start()] if found else ""
        return "" if found is None or between.strip() or not self._closes(found[0]) else found[0]

    def _closes(self, mark: str) -> bool:
        """Whether a mark after a user's text is its end, and not the beginning of the next turn."""
        alone = self._write([USER], None)
        return mark in alone

    def _next_mark(self, message: JsonObject, after: JsonObject, tools: list[JsonObject] | None) -> str:
        text, follows = self._write([USER, message], tools), self._write([USER, message, after], tools)
        found = self._vocabulary.special_mark.search(follows, len(text)) if follows.startswith(text) else None
        return found[0] if found else ""

    def _write(self, messages: list[JsonObject], tools: list[JsonObject] | None) -> str:
        try:
            return self._template.write(messages, tools)
        except EndlessTemplate:
            raise
        except DataError:
            return str(messages[-1]["content"] or "")


def _any_of(marks: list[str | None]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(one) for one in marks if one) or r"(?!)")
