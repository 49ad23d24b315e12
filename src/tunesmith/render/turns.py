"""Messages as a template gets them: turns, each a form and its texts.

Tools are text, a developer is the system, and a tool's result is a user's turn.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunesmith.render import tool_text
from tunesmith.render.chat_template import REASONING, SLOT, ChatTemplate, Form
from tunesmith.rows.messages import Message, Tool

_THINKING_TAG = re.compile("(</?think>)")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn.

    `texts` fill the slots of the form's content, `thought` that of its reasoning. `calls`: how the last text ends,
    where it ends with calls.
    """

    form: Form
    texts: tuple[str, ...]
    thought: str = ""
    calls: str = ""
    learned: bool = False

    def text(self, slot: int) -> str:
        """The text of a slot."""
        return self.thought if slot == REASONING else self.texts[slot]


@dataclass(frozen=True, slots=True)
class _Said:
    role: str
    text: str
    thought: str | None = None
    calls: str = ""
    learned: bool = False
    is_result: bool = False


class Turns:
    """Makes turns for one template."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    def of(self, messages: Sequence[Message], tools: Sequence[Tool], learn_from: int = 0) -> list[Turn]:
        """The turns of a conversation.

        Answers from message `learn_from` on are learned, unless their weight is 0."""
        said = [_said(message, index >= learn_from) for index, message in enumerate(messages)]
        if tools:
            said = _declare(said, tools)
        if not self._template.has_system_role:
            said = _fold_system(said)
        if not self._template.takes_users_in_a_row:
            said = _join_results(said)
        turns = [self._turn(one) for one in said]
        return self._emptied(turns) if any(not one.text.strip() for one in said) else turns

    def _turn(self, said: _Said) -> Turn:
        template, text, reasoning, thought = self._template, said.text, None, said.thought
        if said.is_result and template.reads_results:
            start, end = tool_text.RESULT_START, tool_text.RESULT_END
            inner = text.removeprefix(start).removesuffix(end)
            return Turn(Form(said.role, f"{start}{SLOT}{end}"), (inner,))
        if thought is not None and template.reads_reasoning:
            reasoning = SLOT if thought.strip() else thought
        elif thought and template.reads_thinking:
            text = f"<think>\n{thought}\n</think>\n\n{text}"
        content = SLOT
        texts: tuple[str, ...] = (text,)
        if said.role == "assistant" and reasoning is None and template.reads_thinking and "</think>" in text:
            content, texts = _split(text.removesuffix(said.calls))
            texts = (*texts[:-1], texts[-1] + said.calls)
        return Turn(Form(said.role, content, reasoning), texts, thought or "", said.calls, said.learned)

    def _emptied(self, turns: list[Turn]) -> list[Turn]:
        """Shows the template which questions are empty, once it has stripped what it strips."""
        forms = tuple(turn.form for turn in turns)
        strips = self._template.strips(forms)
        return [
            replace(turn, form=replace(turn.form, content=""), texts=())
            if turn.form.content == SLOT
            and turn.form.role != "assistant"
            and not (strips[index, 0].of(turn.texts[0]) if (index, 0) in strips else turn.texts[0])
            else turn
            for index, turn in enumerate(turns)
        ]


def _said(message: Message, learn: bool) -> _Said:
    match message.role:
        case "assistant":
            calls = tool_text.calls_text(message)
            text, thought = tool_text.assistant_text(message), message.reasoning_content
            return _Said("assistant", text, thought, calls, learn and message.weight != 0)
        case "tool" | "function":
            return _Said("user", tool_text.result_text(message), is_result=True)
        case "developer":
            return _Said("system", message.content or "")
        case role:
            return _Said(role, tool_text.without_result_tags(message.content or ""))


def _declare(said: list[_Said], tools: Sequence[Tool]) -> list[_Said]:
    declared = tool_text.declare(tools)
    if not said or said[0].role != "system":
        return [_Said("system", declared), *said]
    content = said[0].text
    return [_Said("system", f"{content}\n\n{declared}" if content else declared), *said[1:]]


def _split(text: str) -> tuple[str, tuple[str, ...]]:
    """The form of an answer that thinks, and its texts.

    What a template looks for stands in the form: the tags, and blanks that are all there is between them.
    """
    parts = _THINKING_TAG.split(text)
    form, texts = "", []
    for number, part in enumerate(parts):
        if number % 2 == 0 and (part.strip() or number == len(parts) - 1):
            form += SLOT
            texts.append(part)
        else:
            form += part
    return form, tuple(texts)


def _join_results(said: list[_Said]) -> list[_Said]:
    """For templates that want turns to alternate: a tool's result joins the user's turn before it."""
    joined: list[_Said] = []
    for one in said:
        last = joined[-1] if joined else None
        if last is not None and last.role == one.role == "user" and (last.is_result or one.is_result):
            joined[-1] = replace(last, text=f"{last.text}\n{one.text}")
        else:
            joined.append(one)
    return joined


def _fold_system(said: list[_Said]) -> list[_Said]:
    """For templates without a system role: system texts go before the user turn that follows.

    Those between a user's turn and its answer go behind the user's text.
    """
    folded: list[_Said] = []
    waiting: list[str] = []
    for one in said:
        if one.role == "system":
            waiting.append(one.text)
        elif waiting and one.role == "user":
            folded.append(_Said("user", "\n\n".join([*waiting, one.text])))
            waiting = []
        else:
            waiting = [] if _joined(folded, waiting) else waiting
            folded.append(one)
    if waiting and not _joined(folded, waiting):
        folded.append(_Said("user", "\n\n".join(waiting)))
    return folded


def _joined(folded: list[_Said], waiting: list[str]) -> bool:
    """Puts the waiting texts behind the user's turn that was last; whether one was."""
    if not folded or folded[-1].role != "user" or folded[-1].is_result:
        return False
    folded[-1] = replace(folded[-1], text="\n\n".join([folded[-1].text, *waiting]))
    return True
