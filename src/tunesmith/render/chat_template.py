"""A base's own chat template: the literal text around each message's content.

The template runs over placeholders instead of contents, so what it yields is only its own literals. They hold the
special tokens; contents never pass through the template and so can never become one. The result depends on the
sequence of roles alone, which makes it cacheable.

What is not covered: templates that look into a content (Qwen3's search for <think>) see the placeholder; templates
whose rendering of earlier turns depends on later ones are found by `is_prefix_stable`.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunesmith.errors import DataError, ServerFault

# Noncharacters: they occur in no template, and a template's whitespace trimming leaves them alone.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


def _placeholder(index: int) -> str:
    return f"{_OPEN}{index}{_CLOSE}"


class ChatTemplate:
    """The literals that a template writes around a message, by role.

    `text` is the Jinja template; bos and eos are given to it as variables.
    """

    def __init__(self, text: str, special_tokens: dict[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        self.text = text
        self._special_tokens = special_tokens
        self._template = environment.from_string(text)
        self.literals = lru_cache(maxsize=1024)(self._literals)
        self.has_system_role = self._accepts(("system", "user"))
        self.trims = self._trims()

    def is_prefix_stable(self) -> bool:
        """Whether a turn is rendered the same whatever follows it.

        Training on several turns of a row needs this.
        """
        short, whole = ("user", "assistant"), ("user", "assistant", "user", "assistant")
        return self.literals(whole)[:2] == self.literals(short)[:2]

    def _literals(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        """len(roles) + 1 texts: before, between and after the contents. Raises DataError if the template refuses."""
        rendered = self._render(roles, [_placeholder(index) for index in range(len(roles))])
        literals = []
        for index in range(len(roles)):
            literal, found, rendered = rendered.partition(_placeholder(index))
            if not found:
                raise DataError(
                    f"The base's chat template leaves out or moves message {index} ({roles[index]!r}) of the roles"
                    f" {', '.join(roles)}. Use an order of roles that it knows."
                )
            literals.append(literal)
        return (*literals, rendered)

    def _render(self, roles: Sequence[str], contents: Sequence[str]) -> str:
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        try:
            return self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=False, **self._special_tokens
            )
        except TemplateError as error:
            raise DataError(f"The base's chat template refuses the roles {', '.join(roles)}: {error}") from error

    def _accepts(self, roles: tuple[str, ...]) -> bool:
        try:
            self.literals(roles)
        except DataError:
            return False
        return True

    def _trims(self) -> bool:
        """Whether the template strips blanks around a content (Llama 3 and Gemma do)."""
        return f" {_placeholder(0)} " not in self._render(("user",), [f" {_placeholder(0)} "])


def read_template(directory: Path) -> ChatTemplate:
    """The template of a Hugging Face directory.

    It is chat_template.jinja, else tokenizer_config.json's.
    """
    config = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    separate = directory / "chat_template.jinja"
    text = separate.read_text(encoding="utf-8") if separate.is_file() else config.get("chat_template")
    if isinstance(text, list):  # several named templates: [{"name": "default", "template": …}, …]
        text = next((entry["template"] for entry in text if entry["name"] == "default"), None)
    if not isinstance(text, str):
        raise ServerFault(
            f"{directory} has no chat template, so it is not known how its turns are marked. Use an instruct model, or"
            " put a chat_template.jinja into the directory."
        )
    return ChatTemplate(text, special_tokens(config))


def special_tokens(config: dict[str, object]) -> dict[str, str]:
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


def _refuse(message: str) -> None:
    raise TemplateError(message)
