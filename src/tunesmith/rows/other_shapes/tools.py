"""Declarations of tools in other spellings: as text, or Anthropic's."""

import orjson

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.result import UnclearShapeError

_DECLARATIONS = ("functionDeclarations", "function_declarations")


def json_text(value: JsonValue) -> JsonValue:
    """What a text says in JSON; None when it is no JSON list or object."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return None
    try:
        parsed: JsonValue = orjson.loads(value)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    return parsed


def tools_of(value: JsonValue) -> list[JsonValue]:
    """The declarations in OpenAI's spelling; an empty list for none.

    UnclearShapeError for a text that is not JSON.
    """
    if isinstance(value, str):
        if not value.strip():
            return []
        parsed = json_text(value)
        if parsed is None:
            raise UnclearShapeError("'tools' is text that is not JSON; write the list of tools.")
        value = parsed
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return []
    found: list[JsonValue] = []
    for tool in value:
        found += _declared(tool)
    return found


def are_odd_tools(value: JsonValue) -> bool:
    """Whether declarations are spelled in a way that `tools_of` changes."""
    return isinstance(value, str) or (isinstance(value, list) and tools_of(value) != value)


def _declared(tool: JsonValue) -> list[JsonValue]:
    if not isinstance(tool, dict):
        return [tool]
    for key in _DECLARATIONS:
        if isinstance(inner := tool.get(key), list):
            return [_wrapped(one, lower=True) if isinstance(one, dict) else one for one in inner]
    if isinstance(tool.get("name"), str) and "function" not in tool:
        return [_wrapped(tool)]
    if isinstance(tool.get("function"), dict) and "type" not in tool:
        return [{"type": "function", **tool}]
    return [tool]


def _wrapped(tool: JsonObject, *, lower: bool = False) -> JsonObject:
    function: JsonObject = {key: tool[key] for key in ("name", "description", "strict") if key in tool}
    parameters = tool.get("parameters", tool.get("input_schema"))
    if parameters is not None:
        function["parameters"] = _lower_types(parameters) if lower else parameters
    return {"type": "function", "function": function}


def _lower_types(schema: JsonValue) -> JsonValue:
    """A schema with Gemini's `OBJECT` and `STRING` as JSON schema spells them."""
    if isinstance(schema, list):
        return [_lower_types(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else _lower_types(value)
        for key, value in schema.items()
    }
