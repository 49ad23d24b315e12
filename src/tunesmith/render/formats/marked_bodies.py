"""Readers of blocks with marks between name and arguments, and of Gemma's."""

import json
import re
from dataclasses import dataclass

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.call_forms import CallText
from tunesmith.render.formats.bodies import json_calls
from tunesmith.render.formats.form import Calls
from tunesmith.render.formats.values import Schemas

_FENCED = re.compile(r"\s*+```\w*+\n?(.*?)\n?```\s*+\Z", re.DOTALL)
_MISTRAL = re.compile(r"\s*+([\w.:-]++)\s*+(?:\[CALL_ID\]\w*+)?+\s*+(?:\[ARGS\])?+\s*+(?=\{)")
_KIMI = re.compile(r"\s*+(?:functions\.)?([\w.-]+?)(?::\d++)?+\s*+<\|tool_call_argument_begin\|>(.*)", re.DOTALL)
_GEMMA = re.compile(r"\s*+(?:call:|:)?([\w.-][\w.:-]*+)\s*+(?=\{)")
_PYTHON_WORDS: dict[str, JsonValue] = {"None": None, "True": True, "False": False}
_QUOTES = ("<escape>", '<|"|>')


def deepseek_calls(body: str, schemas: Schemas) -> Calls | None:
    """`function<sep>NAME` and a fence (R1, V3), or `NAME<sep>ARGUMENTS` (V3.1)."""
    first, sep, rest = body.partition("<｜tool▁sep｜>")
    if not sep:
        return json_calls(body, schemas)
    if first.strip() == "function" and "\n" in rest:
        first, _, rest = rest.partition("\n")
    fence = _FENCED.match(rest)
    return (CallText(first.strip(), (fence[1] if fence else rest).strip() or "{}"),), ""


def mistral_calls(body: str, schemas: Schemas) -> Calls | None:
    """A list of JSON objects (to v7), or `NAME[ARGS]{…}` (v11 and later)."""
    named = _MISTRAL.match(body)
    if named is None:
        return json_calls(body, schemas)
    rest = body[named.end() :]
    try:
        _, end = json.JSONDecoder().raw_decode(rest)
    except (ValueError, RecursionError):
        return (CallText(named[1], rest.strip()),), ""
    return (CallText(named[1], rest[:end]),), rest[end:]


def kimi_calls(body: str, schemas: Schemas) -> Calls | None:
    """`functions.NAME:0<|tool_call_argument_begin|>{…}`.

    The next may begin before this one is closed.
    """
    found = [_KIMI.fullmatch(one) for one in body.split("<|tool_call_begin|>")]
    calls = tuple(CallText(one[1], one[2].strip() or "{}") for one in found if one is not None)
    return (calls, "") if calls and len(calls) == len(found) else None


def gemma_calls(body: str, schemas: Schemas) -> Calls | None:
    """`call:NAME{key:<escape>text<escape>,n:1}`, with Gemma 4's quotes too."""
    named = _GEMMA.match(body)
    if named is None:
        return json_calls(body, schemas)
    notation = _Notation(body, named.end())
    try:
        value = notation.value()
    except (ValueError, RecursionError):
        return None
    return (CallText(named[1], json.dumps(value, ensure_ascii=False)),), body[notation.at :].strip()


@dataclass(slots=True)
class _Notation:
    """Reads objects whose keys are bare and whose texts stand between marks."""

    text: str
    at: int

    def value(self) -> JsonValue:
        self._blank()
        for quote in (*_QUOTES, '"'):
            if self.text.startswith(quote, self.at):
                return self._quoted(quote)
        if self.text.startswith("{", self.at):
            return self._object()
        if self.text.startswith("[", self.at):
            return self._list()
        return self._bare()

    def _object(self) -> JsonObject:
        self.at += 1
        found: JsonObject = {}
        while not self._closes("}"):
            key = self._key()
            found[key] = self.value()
        return found

    def _list(self) -> list[JsonValue]:
        self.at += 1
        found: list[JsonValue] = []
        while not self._closes("]"):
            found.append(self.value())
        return found

    def _closes(self, bracket: str) -> bool:
        self._blank()
        if self.text.startswith(",", self.at):
            self.at += 1
            self._blank()
        if self.at >= len(self.text):
            raise ValueError("it is not closed")
        if self.text.startswith(bracket, self.at):
            self.at += 1
            return True
        return False

    def _key(self) -> str:
        self._blank()
        for quote in (*_QUOTES, '"'):
            if self.text.startswith(quote, self.at):
                key = self._quoted(quote)
                break
        else:
            end = self.text.index(":", self.at)
            key, self.at = self.text[self.at : end].strip(), end
        self._blank()
        if not self.text.startswith(":", self.at):
            raise ValueError("no value")
        self.at += 1
        return key

    def _quoted(self, quote: str) -> str:
        if quote == '"':
            text, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
            return str(text)
        start = self.at + len(quote)
        end = self.text.index(quote, start)
        self.at = end + len(quote)
        return self.text[start:end]

    def _bare(self) -> JsonValue:
        found = re.compile(r"[^,\]}]*").match(self.text, self.at)
        text = found[0].strip() if found else ""
        self.at = found.end() if found else self.at
        if not text:
            raise ValueError("no value")
        if text in _PYTHON_WORDS:
            return _PYTHON_WORDS[text]
        try:
            value: JsonValue = json.loads(text)
        except ValueError:
            return text
        return value

    def _blank(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
