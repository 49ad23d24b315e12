"""Readers of blocks whose arguments are elements of their own.

MiniMax-M3, MiniCPM5 and Kimi K3 write them.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.call_forms import CallText
from tunesmith.render.formats.bodies import call_of, inner_text, json_calls
from tunesmith.render.formats.form import Calls
from tunesmith.render.formats.values import Schemas, kinds_of, typed

MINIMAX = "]<]minimax[>["  # stands before every tag
MOST_LEVELS = 64
_TAG = re.compile(r'<(/?)([^\s<>"]++)(?:\s++name="([^"<>]*+)")?+\s*+>')
_FUNCTION = re.compile(r'<function\s*+name="([^"<>]++)"\s*+>(.*?)(?:</function>|(?=<function\s*+name=)|\Z)', re.DOTALL)
_PARAM = re.compile(
    r'<param(?:eter)?\s*+name="([^"<>]++)"\s*+>(<!\[CDATA\[.*?\]\]>|.*?)'
    r"(?:</param(?:eter)?>|(?=<param(?:eter)?\s*+name=)|\Z)",
    re.DOTALL,
)
_CDATA = re.compile(r"\s*+<!\[CDATA\[(.*)\]\]>\s*+", re.DOTALL)
_OPEN_CALL = re.compile(
    r"<\|open\|>call ([^<>]*+)<\|sep\|>(.*?)(?:<\|close\|>call<\|sep\|>|(?=<\|open\|>call )|\Z)", re.DOTALL
)
_OPEN_ARGUMENT = re.compile(
    r"<\|open\|>argument ([^<>]*+)<\|sep\|>(.*?)(?:<\|close\|>argument<\|sep\|>|(?=<\|open\|>argument )|\Z)", re.DOTALL
)
_ATTRIBUTE = re.compile(r'(?<!\w)(\w{1,64}+)="([^"]*+)"')


@dataclass(slots=True)
class _Element:
    name: str
    start: int  # of its inner text
    text: str = ""
    children: list["_Element"] = field(default_factory=list)


def minimax_m3_calls(body: str, schemas: Schemas) -> Calls | None:
    """MiniMax-M3's calls, each tag behind a mark, values nested.

    `<invoke name="NAME"><KEY>VALUE</KEY></invoke>`
    """
    root = _tree(body)
    calls = []
    for one in root.children if root else ():
        if not one.name.startswith("invoke "):
            continue
        name = one.name.removeprefix("invoke ")
        known = schemas.get(name, {})
        arguments = _members(one.children, known)
        calls.append(CallText(name, json.dumps(arguments, ensure_ascii=False)))
    return (tuple(calls), "") if calls else None


def _tree(body: str) -> _Element | None:
    """The elements of a block; None for one that is nested without end."""
    root = _Element("", 0)
    open_ones = [root]
    at = 0
    for piece in body.split(MINIMAX):
        start, at = at, at + len(piece) + len(MINIMAX)
        found = _TAG.match(piece)
        if found is None:
            continue
        if found[1]:
            if len(open_ones) > 1:
                done = open_ones.pop()
                done.text = body[done.start : start - len(MINIMAX)]
            continue
        if len(open_ones) > MOST_LEVELS:
            return None
        named = f"{found[2]} {found[3]}" if found[3] is not None else found[2]
        element = _Element(named, start + found.end())
        open_ones[-1].children.append(element)
        open_ones.append(element)
    for one in open_ones[1:]:
        one.text = body[one.start :]
    return root


def _value(element: _Element, schema: JsonValue) -> JsonValue:
    kinds = kinds_of(schema)
    if not element.children:
        empty = not element.text.strip() and "string" not in kinds
        if empty and kinds & {"array", "object"}:
            return [] if "array" in kinds else {}
        return typed(element.text, schema, guess=False)
    if kinds == {"string"}:
        return element.text
    if "array" in kinds and all(one.name == "item" for one in element.children):
        return [_value(one, _part(schema, "items")) for one in element.children]
    if kinds and "object" not in kinds:
        return element.text
    if not kinds and all(one.name == "item" for one in element.children):
        return [_value(one, None) for one in element.children]
    return _members(element.children, {one.name: _part(schema, "properties", one.name) for one in element.children})


def _members(elements: Sequence[_Element], schemas: JsonObject) -> JsonObject:
    """Their values by name; those of elements with the same name are a list."""
    found: JsonObject = {}
    several: dict[str, list[JsonValue]] = {}
    for one in elements:
        value = _value(one, schemas.get(one.name))
        if one.name not in found:
            found[one.name] = value
        elif one.name in several:
            several[one.name].append(value)
        else:
            found[one.name] = several[one.name] = [found[one.name], value]
    return found


def _part(schema: JsonValue, *path: str) -> JsonValue:
    """A part of a schema, or of the first of its alternatives that has it."""
    if not isinstance(schema, dict):
        return None
    found: JsonValue = schema
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if found is not None:
        return found
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        for option in options if isinstance(options, list) else ():
            if (inner := _part(option, *path)) is not None:
                return inner
    return None


def param_calls(body: str, schemas: Schemas) -> Calls | None:
    """`<function name="NAME"><param name="KEY">VALUE</param></function>`, MiniCPM5's."""
    calls = []
    for found in _FUNCTION.finditer(body):
        known = schemas.get(found[1], {})
        arguments = {one[1]: _param(one[2], known.get(one[1])) for one in _PARAM.finditer(found[2])}
        calls.append(call_of(found[1], arguments, known))
    return (tuple(calls), "") if calls else json_calls(body, schemas)


def _param(text: str, schema: JsonValue) -> JsonValue:
    quoted = _CDATA.fullmatch(text)
    return typed(quoted[1] if quoted else inner_text(text), schema, guess=True)


def kimi_k3_calls(body: str, schemas: Schemas) -> Calls | None:
    """Kimi K3's calls.

    `<|open|>call tool="NAME"<|sep|><|open|>argument key="KEY" type="T"<|sep|>VALUE<|close|>…`
    """
    calls = []
    for found in _OPEN_CALL.finditer(body):
        name = dict(_ATTRIBUTE.findall(found[1])).get("tool", "")
        arguments: JsonObject = {}
        for one in _OPEN_ARGUMENT.finditer(found[2]):
            about = dict(_ATTRIBUTE.findall(one[1]))
            schema: JsonValue = {"type": about["type"]} if "type" in about else None
            arguments[about.get("key", "")] = typed(one[2], schema, guess=True)
        if name:
            calls.append(CallText(name, json.dumps(arguments, ensure_ascii=False)))
    return (tuple(calls), "") if calls else None
