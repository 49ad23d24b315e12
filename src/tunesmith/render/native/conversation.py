"""A conversation as the text that its template wrote, and where answers are in it.

The prompt is what the template writes with `add_generation_prompt`. An answer is learned after exactly that text: it is
what the template adds for the answer, up to the mark that ends its turn. Where the template shows an earlier answer
otherwise than it was given (Qwen3 drops its thinking), a row makes several examples, as in `render.layout`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TypeAlias

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.chat_template import ChatTemplate
from tunesmith.render.faults import EndlessTemplate, RenderError, left_out, lost_calls, no_answer, thinking_is_off
from tunesmith.render.native.guard import Guard
from tunesmith.render.native.habits import Habits
from tunesmith.render.native.messages import Speaker
from tunesmith.render.native.shapes import MOST_TOOL_CHARS, Key, Shape, Shapes, are_plain, filled, pieces, slotted
from tunesmith.render.native.texts import SENTINEL, common
from tunesmith.render.native.turn_ends import TurnEnds
from tunesmith.render.vocabulary import Vocabulary
from tunesmith.rows.messages import Message, Tool
from tunesmith.system.deadline import check_time

_OPEN_THINKING = re.compile(r"<think>\s*\Z")
_CLOSED_THINKING = re.compile(r"</think>\s*\Z")
_OTHERWISE_CLOSED = re.compile(r"(?:<(?=[^<>]*think)(?=[^<>]*(?:/|end_))[^<>]++>|\[/THINK\])\s*\Z", re.IGNORECASE)
_CLOSE_THINKING = "\n</think>\n\n"
_THOUGHT = re.compile(r"\s*+(?:<think>)?+(.*?)</think>\s*+", re.DOTALL)
_BLANK_THOUGHT = re.compile(r"(?:<(?=[^<>]*think)[^<>]*+>|\[/?THINK\]|\s)*+", re.IGNORECASE)
Variables: TypeAlias = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Span:
    """Where an answer stands in a text."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Written:
    """A text of the template, the answers learned in it, and the guard of its marks."""

    text: str
    guard: Guard
    learned: tuple[Span, ...] = ()


Seamless: TypeAlias = Callable[[Written, int], bool]


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str  # the conversation up to the answer's end
    start: int


class Conversations:
    """Writes conversations with one template."""

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary, habits: Habits, eos_ids: set[int]) -> None:
        self._template = template
        self._speaker = Speaker(habits, template.text, vocabulary)
        self._shapes = Shapes()
        self.ends = TurnEnds(template, vocabulary, habits, eos_ids)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool], variables: Variables | None = None) -> Written:
        """What the assistant continues."""
        talk = _Talk(self._template, self._speaker, messages, tools, variables)
        text = talk.prompt(len(messages))
        talk.check_all_there(text, len(messages))
        return Written(text, talk.guard)

    def examples(
        self, messages: Sequence[Message], tools: Sequence[Tool], learned: Sequence[int], is_seamless: Seamless
    ) -> list[Written]:
        """The examples that teach the answers at the indices `learned`.

        `is_seamless`: whether a text has the same tokens when it is cut at a place.
        """
        talk = _Talk(self._template, self._speaker, messages, tools, None)
        answers = self._shaped(talk, tuple(learned)) or {at: self._answer(talk, at) for at in learned}
        examples: list[Written] = []
        waiting = list(learned)
        while waiting:
            last = waiting[-1]
            whole = answers[last].text
            written = Written(whole, talk.guard)
            taught = [
                one
                for one in waiting
                if one == last or (whole.startswith(answers[one].text) and is_seamless(written, answers[one].start))
            ]
            spans = tuple(Span(answers[one].start, len(answers[one].text)) for one in taught)
            talk.check_all_there(whole, last)
            examples.append(Written(whole, talk.guard, spans))
            waiting = [one for one in waiting if one not in taught]
        return examples[::-1]

    def _shaped(self, talk: "_Talk", learned: tuple[int, ...]) -> dict[int, _Answer] | None:
        """The answers of a conversation of plain texts, by its shape; None where they have to be written."""
        key = talk.key(learned) if len(learned) > 1 else None
        if key is None or (shape := self._shapes.of(key, lambda: self._shape(talk.slotted(), learned))) is None:
            return None
        texts, last = [str(one["content"]) for one in talk.shown], learned[-1]
        whole, prompt = filled(shape.whole, texts), filled(shape.prompt, texts)
        if whole != talk.text(last + 1) or not (whole.startswith(prompt) or prompt == talk.prompt(last)):
            return None
        answers: dict[int, _Answer] = {}
        for at, (asked, said) in shape.answers.items():
            prompt = filled(asked, texts)
            answers[at] = _Answer(prompt + filled(said, texts), len(prompt))
        return answers

    def _shape(self, talk: "_Talk", learned: tuple[int, ...]) -> Shape | None:
        shared: dict[str, str] = {}
        try:
            written = {at: self._answer(talk, at) for at in learned}
            whole, prompt = talk.text(learned[-1] + 1), talk.prompt(learned[-1])
        except EndlessTemplate:
            raise
        except RenderError:
            return None
        answers = {
            at: (pieces(one.text[: one.start], shared), pieces(one.text[one.start :], shared))
            for at, one in written.items()
        }
        return Shape(pieces(whole, shared), pieces(prompt, shared), answers)

    def _answer(self, talk: "_Talk", at: int) -> _Answer:
        check_time()
        prompt, whole = talk.prompt(at), talk.text(at + 1)
        said = whole[len(prompt) :] if whole.startswith(prompt) else _continuation(talk, at, prompt, whole)
        said = self.ends.cut(said, called=bool(talk.shown[at].get("tool_calls")))
        if not said.strip():
            raise no_answer(at)
        if not _has_calls(said, talk.shown[at]):
            raise lost_calls(at)
        return _Answer(prompt + said, len(prompt))


class _Talk:
    """One conversation, its messages put into the template's shape."""

    def __init__(
        self,
        template: ChatTemplate,
        speaker: Speaker,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        variables: Variables | None,
    ) -> None:
        self._template, self._speaker, self._variables = template, speaker, variables
        self._tools = tools
        self.guard = speaker.guard(messages, tools)
        self.shown = speaker.messages(messages, self.guard)
        self._declared = speaker.tools(tools, self.guard)

    def key(self, learned: tuple[int, ...]) -> Key | None:
        """What the texts depend on besides those of the messages.

        None where these are not plain.
        """
        if self.guard.character or not are_plain(self.shown):
            return None
        tools = json.dumps(self._declared) if self._declared else ""
        if len(tools) > MOST_TOOL_CHARS:
            return None
        return Key(tuple(str(one["role"]) for one in self.shown), learned, tools, self._template.moment())

    def slotted(self) -> "_Talk":
        """The same conversation with slots in the place of its texts."""
        talk = copy(self)
        talk.shown = slotted(self.shown)
        return talk

    def text(self, count: int) -> str:
        """The first `count` messages."""
        return self._write(self.shown[:count])

    def prompt(self, count: int) -> str:
        """The prompt for an answer to the first `count` messages.

        A template that knows no such thing writes it before an answer only.
        """
        text = self._write(self.shown[:count], prompt=True)
        if "add_generation_prompt" not in self._template.text:
            head = self.head(count)
            return head if head.startswith(text) else text
        return text

    def head(self, count: int) -> str:
        """What is written before the text of a plain answer."""
        return self._write([*self.shown[:count], {"role": "assistant", "content": SENTINEL}]).partition(SENTINEL)[0]

    def check_all_there(self, text: str, count: int) -> None:
        """Raises RenderError where the template leaves out what a system or a user said.

        Some write it while the last turn is a user's only (Mistral's the system text): that is their way.
        """
        roles = [str(one["role"]) for one in self.shown[:count]]
        for at, message in enumerate(self.shown[:count]):
            said = str(message["content"] or "").strip()
            if roles[at] in {"system", "developer", "user"} and said not in text:
                asked = max((one + 1 for one, role in enumerate(roles) if role == "user"), default=count)
                if said not in self.prompt(asked):
                    raise left_out(at, tuple(roles))

    def _write(self, messages: Sequence[JsonObject], *, prompt: bool = False) -> str:
        try:
            return self._template.write(messages, self._declared, prompt=prompt, variables=self._variables)
        except EndlessTemplate:
            raise
        except RenderError:
            declared = self._speaker.tools(self._tools, self.guard, whole=True)
            if declared is None or declared == self._declared:
                raise
            self._declared = declared
        return self._template.write(messages, self._declared, prompt=prompt, variables=self._variables)


def _continuation(talk: _Talk, at: int, prompt: str, whole: str) -> str:
    """An answer as the model writes it after a prompt that the template does not write before answers."""
    shared = common(prompt, whole)
    opener, rest = prompt[shared:], whole[shared:]
    thought = _thought_of(talk.shown[at])
    if _OPEN_THINKING.search(opener):
        return f"{thought}{_CLOSE_THINKING}{_without_thought(rest)}"
    written = thought and thought in rest
    if thought and (_CLOSED_THINKING.search(prompt) or (written and _OTHERWISE_CLOSED.search(prompt))):
        raise thinking_is_off()
    if _BLANK_THOUGHT.fullmatch(opener):
        return rest
    head, asked = talk.head(at), talk.text(at)
    opening = prompt[len(asked) :] if prompt.startswith(asked) else ""
    return whole[min(head.rindex(opening) + len(opening) if opening in head else len(head), common(whole, head)) :]


def _name(call: JsonValue) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    return str(function.get("name")) if isinstance(function, dict) else ""


def _has_calls(said: str, message: JsonObject) -> bool:
    """Whether a template wrote as many calls of each function as there are."""
    calls = message.get("tool_calls")
    names = [_name(call) for call in calls] if isinstance(calls, list) else []
    return all(said.count(name) >= names.count(name) for name in set(names))


def _thought_of(message: JsonObject) -> str:
    given = message.get("reasoning_content")
    if isinstance(given, str):
        return given.strip("\n")
    found = _THOUGHT.match(str(message["content"] or ""))
    return found[1].strip("\n") if found else ""


def _without_thought(text: str) -> str:
    found = _THOUGHT.match(text)
    return text[found.end() :] if found else text
