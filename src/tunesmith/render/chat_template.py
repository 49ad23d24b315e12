"""A base's own chat template, run over slots instead of contents.

A message reaches the template as a form: its role, and its content with a slot for every text in it. So what the
template yields is its own literals, which hold the special tokens, and the slots in the places where the texts belong;
texts never pass through the template and so can never become a special token. The result depends on the forms alone,
which makes it cacheable.

Where a template looks into contents, the form shows it what it looks for: the tags of thinking and of a tool's result
stand in the form, and so does the emptiness of a text.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Template

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.faults import (
    NO_TEMPLATE,
    EndlessTemplate,
    RenderError,
    broken_template,
    endless,
    left_out,
    no_template,
    refused,
    template_too_long,
)
from tunesmith.render.template_environment import TemplateEnvironment
from tunesmith.render.template_meter import TooMuch, begin
from tunesmith.system.deadline import OutOfTime

# Noncharacters: they occur in no template, and a template's whitespace trimming leaves them alone.
SLOT, _CLOSE = "\ufdd0", "\ufdd1"
SLOT_PATTERN = re.compile(f"{SLOT}(\\d{{1,9}})\\.(\\d{{1,9}}){_CLOSE}")
REASONING = 9  # the number of the slot of a message's `reasoning_content`
MOST_REPEATS = 8  # of a message's text in what is rendered, on average
MAX_TEMPLATE = 64 * 1024  # characters; the longest in use have some 17,000
_BEFORE, _AFTER = "\n\t\n", "\n \n"  # put around a text to see what the template strips off it


@dataclass(frozen=True, slots=True)
class Form:
    """A message as a template sees it.

    `content` and `reasoning` have `SLOT` in the place of each text.
    """

    role: str
    content: str = SLOT
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Strips:
    """What a template strips off the two ends of a text.

    Nothing (""), line breaks, or all blanks (None).
    """

    left: str | None = ""
    right: str | None = ""

    def of(self, text: str) -> str:
        """The text as the template writes it."""
        left = text if self.left == "" else text.lstrip(self.left)
        return left if self.right == "" else left.rstrip(self.right)


Forms = tuple[Form, ...]
ANSWER = Form("assistant")
KEEPS = Strips()


class ChatTemplate:
    """What a template writes around messages.

    `text` is the Jinja template; bos and eos are given to it as variables. Raises RenderError if it is no template.
    """

    def __init__(self, text: str, special_tokens: dict[str, str]) -> None:
        self.text = text
        self._special_tokens = special_tokens
        self._environment = TemplateEnvironment()
        self._template = self._compiled(text)
        self.moment: Callable[[], tuple[str, ...]] = self._environment.moment
        self._rendered = lru_cache(maxsize=4096)(self._render_slots)
        self._stripped = lru_cache(maxsize=1024)(self._find_strips)
        self.reads_thinking = "</think>" in text
        self.reads_results = "<tool_response>" in text
        # Mistral's writes the system message only where a user's turn is the last: that is no place for it.
        self.has_system_role = self._accepts((Form("system"), Form("user"), ANSWER))
        self.takes_users_in_a_row = self._accepts((Form("user"), Form("user"), ANSWER))
        self.reads_reasoning = self._reads_reasoning()

    def render(self, forms: Forms, *, prompt: bool = False) -> str:
        """The whole text, with `SLOT_PATTERN` in the place of each text.

        `prompt`: up to where the assistant begins to write. Raises RenderError if the template refuses.
        """
        rendered = self._rendered(forms, prompt, self.moment())
        if isinstance(rendered, EndlessTemplate):
            raise endless(rendered.reason)
        return rendered

    def write(
        self,
        messages: Sequence[JsonObject],
        tools: Sequence[JsonObject] | None = None,
        *,
        prompt: bool = False,
        variables: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """The text of whole messages, as transformers has it written.

        Raises RenderError if the template refuses.
        """
        made = list(messages)
        return self._metered(made, prompt=prompt, tools=tools, variables=variables)

    def strips(self, forms: Forms) -> dict[tuple[int, int], Strips]:
        """What the template strips off the texts, by message and slot.

        Texts that it leaves alone are not named.
        """
        return self._stripped(forms, self.moment())

    def _compiled(self, text: str) -> Template:
        if len(text) > MAX_TEMPLATE:
            raise template_too_long(len(text), MAX_TEMPLATE)
        begin(0)
        try:
            return self._environment.from_string(text)
        except Exception as error:  # besides Jinja's: nesting, names and numbers that Python does not compile
            raise broken_template(error) from error

    def _render_slots(self, forms: Forms, prompt: bool, _moment: tuple[str, ...]) -> str | EndlessTemplate:
        try:
            text = self._run(forms, prompt, "", "")
        except EndlessTemplate as error:  # remembered: trying again would cost as much
            return error
        slots = [(int(one[1]), int(one[2])) for one in SLOT_PATTERN.finditer(text)]
        found = set(slots)
        if not found <= _places(forms) or len(slots) > MOST_REPEATS * len(found):
            return endless(f"writes texts that nobody wrote, or one more than {MOST_REPEATS} times")
        for index, form in enumerate(forms):
            last = form.content.count(SLOT) - 1
            if last >= 0 and (index, last) not in found:
                raise left_out(index, tuple(form.role for form in forms))
        return text

    def _run(self, forms: Forms, prompt: bool, before: str, after: str) -> str:
        messages = [_message(index, form, before, after) for index, form in enumerate(forms)]
        return self._metered(messages, prompt=prompt)

    def _metered(
        self,
        messages: list[JsonObject],
        *,
        prompt: bool,
        tools: Sequence[JsonObject] | None = None,
        variables: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """One run of the template, within the limits of `template_meter`."""
        begin(len(messages) + len(tools or ()))
        values = {**self._special_tokens, **(variables or {})}
        try:
            return self._template.render(
                messages=messages, tools=tools, documents=None, add_generation_prompt=prompt, **values
            )
        except OutOfTime:
            raise
        except TooMuch as error:
            raise endless(str(error)) from error
        except Exception as error:  # a template may fail in any way that an expression of Python can
            raise refused(tuple(str(one["role"]) for one in messages), error) from error

    def _find_strips(self, forms: Forms, _moment: tuple[str, ...]) -> dict[tuple[int, int], Strips]:
        padded = SLOT_PATTERN.split(self._run(forms, False, _BEFORE, _AFTER))
        plain = SLOT_PATTERN.split(self.render(forms))
        if len(padded) != len(plain):
            return {}
        literals = list(zip(padded[::3], plain[::3], strict=True))
        ends = [_pads(with_pads, literal) for with_pads, literal in literals]
        found = {}
        for number in range(len(plain) // 3):
            place = (int(plain[3 * number + 1]), int(plain[3 * number + 2]))
            strips = Strips(_LEFT[ends[number][1]], _RIGHT[ends[number + 1][0]])
            if strips != KEEPS:
                found[place] = strips
        return found

    def _accepts(self, forms: Forms) -> bool:
        try:
            self.render(forms)
        except EndlessTemplate:
            raise
        except DataError:
            return False
        return True

    def _reads_reasoning(self) -> bool:
        forms = (Form("user"), Form("assistant", reasoning=SLOT))
        try:
            return f".{REASONING}{_CLOSE}" in self.render(forms)
        except EndlessTemplate:
            raise
        except DataError:
            return False


# What is left of `_BEFORE` and `_AFTER`, and what has been stripped then.
_LEFT: dict[str, str | None] = {_BEFORE: "", "\t\n": "\n", "": None}
_RIGHT: dict[str, str | None] = {_AFTER: "", "\n ": "\n", "": None}


def _pads(padded: str, literal: str) -> tuple[str, str]:
    """(what is left of `_AFTER` before the literal, what is left of `_BEFORE` after it)."""
    for after in _RIGHT:
        for before in _LEFT:
            if padded == after + literal + before:
                return after, before
    return _AFTER, _BEFORE


def placed(form: Form, index: int, before: str = "", after: str = "") -> tuple[str, str | None]:
    """Content and reasoning of message `index` with its numbered slots.

    Each slot stands between `before` and `after`.
    """
    parts = form.content.split(SLOT)
    slots = [f"{before}{SLOT}{index}.{number}{_CLOSE}{after}" for number in range(len(parts) - 1)]
    content = "".join([part + slot for part, slot in zip(parts, [*slots, ""], strict=True)])
    if form.reasoning is None:
        return content, None
    return content, form.reasoning.replace(SLOT, f"{before}{SLOT}{index}.{REASONING}{_CLOSE}{after}")


def _message(index: int, form: Form, before: str, after: str) -> JsonObject:
    content, reasoning = placed(form, index, before, after)
    message: JsonObject = {"role": form.role, "content": content}
    return message if reasoning is None else message | {"reasoning_content": reasoning, "thinking": reasoning}


def _places(forms: Forms) -> set[tuple[int, int]]:
    """The slots of the forms."""
    places = {(index, slot) for index, form in enumerate(forms) for slot in range(form.content.count(SLOT))}
    return places | {(index, REASONING) for index, form in enumerate(forms) if form.reasoning is not None}


def find_template(directory: Path) -> ChatTemplate | None:
    """The template of a Hugging Face directory.

    It is chat_template.jinja, else tokenizer_config.json's. None if it has none. Raises RenderError for one that is
    broken.
    """
    config = read_object(directory / "tokenizer_config.json")
    separate = directory / "chat_template.jinja"
    text = separate.read_text(encoding="utf-8") if separate.is_file() else config.get("chat_template")
    if isinstance(text, list):  # several named templates: [{"name": "default", "template": …}, …]
        named = [entry for entry in text if isinstance(entry, dict)]
        text = next((entry["template"] for entry in named if entry["name"] == "default"), None)
    return ChatTemplate(text, special_tokens(config)) if isinstance(text, str) else None


def read_object(path: Path) -> JsonObject:
    """The JSON object in a file; an empty one if there is none."""
    value: JsonObject = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return value


def special_tokens(config: JsonObject) -> dict[str, str]:
    """The bos_token, eos_token and so on of a tokenizer_config.json.

    Their values are strings or {"content": …}.
    """
    tokens = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def generation_ends(model_dir: Path) -> set[int]:
    """The ends that generation_config.json names, or else config.json."""
    for name in ("generation_config.json", "config.json"):
        path = model_dir / name
        ends = read_object(path).get("eos_token_id") if path.is_file() else None
        if ends is not None:
            return {one for one in (ends if isinstance(ends, list) else [ends]) if isinstance(one, int)}
    return set()


def chat_fault(model_dir: Path) -> RenderError | None:
    """Why the base in `model_dir` cannot chat; None if it can."""
    template = working_template(model_dir)
    return template if isinstance(template, RenderError) else None


def working_template(model_dir: Path) -> ChatTemplate | RenderError:
    """The template of the base in `model_dir`, or why it cannot chat."""
    try:
        template = find_template(model_dir)
        if template is None:
            return no_template()
        template.render((Form("user"), ANSWER))
    except RenderError as error:
        return RenderError(error.what, error.fix, NO_TEMPLATE)
    return template
