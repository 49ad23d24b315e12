"""Arguments written as text, with the types that the declared function gives them."""

import ast
import json
import re
from collections.abc import Mapping, Sequence

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.messages import Tool

Schemas = Mapping[str, JsonObject]  # function name -> the schemas of its parameters, by name
MOST_LEVELS = 6  # of a schema in which references are followed
MOST_PARTS = 2_000  # of all schemas in an answer's tools
_WRAPPERS = frozenset({"arguments", "args", "input", "parameters", "properties"})
_UNREADABLE = (ValueError, SyntaxError, RecursionError, MemoryError, TypeError)
_WHOLE = re.compile(r"\s*+-?\d{1,300}+\s*+")
_WORDS: dict[str, JsonValue] = {"true": True, "false": False, "null": None, "none": None}


def schemas_of(tools: Sequence[Tool]) -> Schemas:
    """What `typed` needs to know of the declared functions."""
    found: dict[str, JsonObject] = {}
    for tool in tools:
        root = tool.parameters or {}
        properties = root.get("properties")
        known = properties if isinstance(properties, dict) else {}
        found[tool.name] = _References(root).followed_in(known) if _refers(root) else known
    return found


def _refers(root: JsonObject) -> bool:
    return "$defs" in root or "definitions" in root


class _References:
    """Puts the schemas that `$ref` names in its place, as far as `MOST_LEVELS`."""

    def __init__(self, root: JsonObject) -> None:
        self._root, self._parts = root, 0

    def followed_in(self, schemas: JsonObject, level: int = 0) -> JsonObject:
        """The same schemas by name, without references."""
        if self._parts > MOST_PARTS:
            return schemas
        return {name: self._followed(schema, level) for name, schema in schemas.items()}

    def _followed(self, schema: JsonValue, level: int) -> JsonValue:
        self._parts += 1
        if not isinstance(schema, dict) or level > MOST_LEVELS or self._parts > MOST_PARTS:
            return schema
        if isinstance(named := schema.get("$ref"), str):
            return self._followed(self._target(named), level + 1)
        found = dict(schema)
        for key in ("anyOf", "oneOf", "allOf"):
            if isinstance(options := schema.get(key), list):
                found[key] = [self._followed(option, level + 1) for option in options]
        if "items" in schema:
            found["items"] = self._followed(schema["items"], level + 1)
        if isinstance(inner := schema.get("properties"), dict):
            found["properties"] = self.followed_in(inner, level + 1)
        return found

    def _target(self, named: str) -> JsonValue:
        place: JsonValue = self._root
        for key in named.removeprefix("#/").split("/") if named.startswith("#/") else ():
            place = place.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(place, dict) else None
        return place


def unwrapped(arguments: JsonObject, known: JsonObject) -> JsonObject:
    """Arguments that a model has put into another one.

    That is one such as `arguments`, which the function does not have.
    """
    if len(arguments) != 1 or not known:
        return arguments
    ((key, inner),) = arguments.items()
    if key not in _WRAPPERS or key in known:
        return arguments
    value = _read(inner, inner) if isinstance(inner, str) else inner
    return value if isinstance(value, dict) and value and known.keys() >= value.keys() else arguments


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
    if "integer" in kinds and _WHOLE.fullmatch(text):  # JSON knows no 007
        return int(text)
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
    for key in ("anyOf", "oneOf", "allOf"):
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
