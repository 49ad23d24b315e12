"""Arguments written as text, with the types that the declared function gives them."""

import ast
import json
from collections.abc import Mapping, Sequence

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.messages import Tool

Schemas = Mapping[str, JsonObject]  # function name -> the schemas of its parameters, by name
_UNREADABLE = (ValueError, SyntaxError, RecursionError, MemoryError, TypeError)
_WORDS: dict[str, JsonValue] = {"true": True, "false": False, "null": None, "none": None}


def schemas_of(tools: Sequence[Tool]) -> Schemas:
    """What `typed` needs to know of the declared functions."""
    found: dict[str, JsonObject] = {}
    for tool in tools:
        properties = (tool.parameters or {}).get("properties")
        found[tool.name] = properties if isinstance(properties, dict) else {}
    return found


def typed(text: str, schema: JsonValue, *, guess: bool) -> JsonValue:
    """The value of an argument.

    `guess`: whether one without a type may be JSON; else it is text.
    """
    kinds = kinds_of(schema)
    if text.strip().lower() in {"null", "none"} and "string" not in kinds and (kinds or guess):
        return None
    if not kinds:
        return _read(text, text) if guess else text
    if "string" in kinds and len(kinds) == 1:
        return text
    value = _read(text, text)
    return text if "string" in kinds and not _fits(value, kinds) else value


def kinds_of(schema: JsonValue) -> set[str]:
    """The types that a schema names."""
    if not isinstance(schema, dict):
        return set()
    named = schema.get("type")
    kinds = (
        {named}
        if isinstance(named, str)
        else {one for one in named if isinstance(one, str)}
        if isinstance(named, list)
        else set()
    )
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        for option in options if isinstance(options, list) else ():
            kinds |= kinds_of(option)
    choices = schema.get("enum")
    if not kinds and isinstance(choices, list) and choices and all(isinstance(one, str) for one in choices):
        kinds = {"string"}
    return kinds


def _fits(value: JsonValue, kinds: set[str]) -> bool:
    match value:
        case None:
            return "null" in kinds
        case bool():
            return "boolean" in kinds
        case int():
            return bool(kinds & {"integer", "number"})
        case float():
            return "number" in kinds
        case dict():
            return "object" in kinds
        case list():
            return "array" in kinds
    return True


def _read(text: str, otherwise: JsonValue) -> JsonValue:
    stripped = text.strip()
    if stripped.lower() in _WORDS:
        return _WORDS[stripped.lower()]
    try:
        value: JsonValue = json.loads(stripped)
    except _UNREADABLE:
        try:
            value = ast.literal_eval(stripped) if len(stripped) < 65_536 else otherwise
            json.dumps(value)
        except _UNREADABLE:
            return otherwise
    return value
