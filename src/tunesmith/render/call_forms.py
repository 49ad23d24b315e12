"""Calls between tags in other forms than the one that is taught.

An untuned base writes what it has met in its own training: `parameters` for `arguments`, an OpenAI call with its
`function`, several calls or a list of them in one tag, a Python call, and each of these in a code fence.

What is not covered: whether such a function is declared; a grammar sees to that where it matters.
"""

import ast
import json
import re
from dataclasses import dataclass

from tunesmith.jsonvalue import JsonObject, JsonValue

MAX_PYTHON_CHARS = 65_536  # Python's parser takes about 1 ms for 1,000 characters
_OURS = re.compile(r'\s*\{"name": ("(?:[^"\\]|\\.)+"), "arguments": (.*)\}\s*', re.DOTALL)
_FENCE = re.compile(r"\s*```\w*\n(.*?)\n?```\s*", re.DOTALL)
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_ABOUT_THE_CALL = ("name", "function", "type", "id")  # what is left beside them is arguments
_UNREADABLE = (ValueError, SyntaxError, RecursionError, MemoryError)  # what parsers raise
_PYTHON = re.compile(r"\s*+((?:\[\s*+)?[A-Za-z_][\w.]*+\(|[\[\s]*+\{\s*+')")
# Escapes that Python's parser prints a warning of.
_WARNED_OF = re.compile(r"""(?<!\\)(?:\\\\)*\\[^\\'"abfnrtv0-7xuUN\n]""")


@dataclass(frozen=True, slots=True)
class CallText:
    """A whole call; its id is given where it is shown."""

    name: str
    arguments: str


def read_calls(body: str) -> tuple[CallText, ...]:
    """The calls that stand between the tags; () where it is something else."""
    if fence := _FENCE.fullmatch(body):
        body = fence[1]
    return _as_taught(body) or _all_calls(_json_values(body)) or _all_calls(_python_values(body))


def _as_taught(body: str) -> tuple[CallText, ...]:
    """One call, whose arguments stay as they were written."""
    ours = _OURS.fullmatch(body)
    if ours is None:
        return ()
    try:
        name, arguments = json.loads(ours[1]), json.loads(ours[2])
    except _UNREADABLE:
        return ()
    return (CallText(name, ours[2] if isinstance(arguments, dict | list) else _arguments_text(arguments)),)


def _json_values(body: str) -> list[JsonValue]:
    """JSON values one after the other, with or without commas; [] where there is more than that."""
    values: list[JsonValue] = []
    decoder, rest = json.JSONDecoder(), body.strip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except _UNREADABLE:
            return []
        values += value if isinstance(value, list) else [value]
        rest = rest[end:].lstrip(" \t\r\n,;")
    return values


def _python_values(body: str) -> list[JsonValue]:
    """`f(a=1)`, `[f(a=1), g()]` and objects in Python's spelling, as JSON values."""
    if len(body) > MAX_PYTHON_CHARS or not _PYTHON.match(body) or _WARNED_OF.search(body):
        return []
    try:
        tree = ast.parse(body.strip())
        values = [_python_value(line.value) if isinstance(line, ast.Expr) else None for line in tree.body]
    except (*_UNREADABLE, TypeError):
        return []
    return [part for value in values for part in (value if isinstance(value, list) else [value])]


def _python_value(node: ast.expr) -> JsonValue:
    if isinstance(node, ast.List | ast.Tuple):
        return [_python_value(element) for element in node.elts]
    if isinstance(node, ast.Call) and not node.args and all(keyword.arg for keyword in node.keywords):
        arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
        return {"name": ast.unparse(node.func), "arguments": arguments}
    value: JsonValue = ast.literal_eval(node)
    return value


def _all_calls(values: list[JsonValue]) -> tuple[CallText, ...]:
    """The values as calls; () unless all of them are."""
    calls = tuple(call for value in values if (call := _call(value)) is not None)
    return calls if len(calls) == len(values) else ()


def _call(value: JsonValue) -> CallText | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):  # as in OpenAI's messages
        return _call(inner)
    name = inner if isinstance(inner, str) else value.get("name")
    if not isinstance(name, str) or not name:
        return None
    try:
        return CallText(name, _arguments_text(_arguments_of(value)))
    except (TypeError, ValueError):  # of Python's values, those that JSON has not
        return None


def _arguments_of(value: JsonObject) -> JsonValue:
    found = next((key for key in _ARGUMENTS if key in value), None)
    if found is not None:
        return value[found]
    return {key: part for key, part in value.items() if key not in _ABOUT_THE_CALL}


def _arguments_text(arguments: JsonValue) -> str:
    """As JSON text; none are {}."""
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return "{}"
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
