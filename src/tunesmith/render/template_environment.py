"""The Jinja environment in which chat templates run.

It is sandboxed, and has all that transformers gives them. Besides Jinja's own: `raise_exception`, `strftime_now`,
`tojson` with its options, `dict`, loop controls, and the tag `{% generation %}`, which marks an answer and changes no
text.
"""

import json
from datetime import datetime

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment


class RefusedByTemplate(TemplateError):
    """What a template said through `raise_exception`."""


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """An environment for one template.

    It remembers how the template asked for the time."""

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols])
        self._time_formats: set[str] = set()
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = self._strftime_now
        self.globals["dict"] = _new_dict
        self.filters["tojson"] = _to_json

    def moment(self) -> tuple[str, ...]:
        """What the template would read as the time.

        A text made now is good for as long as this stays the same. Empty for a template that does not ask for it.
        """
        if not self._time_formats:
            return ()
        now = _now()
        return tuple(now.strftime(one) for one in sorted(self._time_formats))

    def _strftime_now(self, format: str) -> str:  # noqa: A002  (transformers' name)
        self._time_formats.add(format)
        return _now().strftime(format)


def _now() -> datetime:
    return datetime.now()  # noqa: DTZ005  (local time without a zone, as transformers has it)


class _GenerationTag(Extension):
    tags = {"generation"}  # noqa: RUF012  (Jinja's own type)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    @staticmethod
    def _text(caller: Macro) -> str:
        return str(caller())


def _refuse(message: str) -> None:
    raise RefusedByTemplate(message)


def _new_dict(*values: dict[str, object], **named: object) -> dict[str, object]:
    return dict(*values, **named)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own filter, without escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
