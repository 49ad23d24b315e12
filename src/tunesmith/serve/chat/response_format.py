"""`response_format` of a chat request -> the schema that the answer is held to."""

import re

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.chat.schema import ANY_OBJECT, schema_fault
from tunesmith.wire.fields import Fields, as_object, as_text, invalid_value, missing, wrong_type

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SCHEMA_KEYS = ("name", "description", "schema", "strict")


def read_response_format(fields: Fields) -> JsonObject | None:
    """A JSON schema that `serve.chat.schema` can hold an answer to; None for text.

    `strict` changes nothing: an answer is held to its schema with and without it.
    """
    value = fields.object("response_format")
    if value is None:
        return None
    kind = value.get("type")
    if kind is None:
        raise missing("response_format.type")
    match as_text(kind, "response_format.type"):
        case "text":
            return None
        case "json_object":
            return ANY_OBJECT
        case "json_schema":
            return _schema(value.get("json_schema"))
    raise invalid_value(
        "response_format.type",
        f"Invalid value: {kind!r}. Supported values are: 'text', 'json_object' and 'json_schema'.",
    )


def _schema(value: JsonValue) -> JsonObject:
    path = "response_format.json_schema"
    if value is None:
        raise missing(path)
    described = as_object(value, path)
    name = _name(described.get("name"), f"{path}.name")
    if described.get("description") is not None:
        as_text(described["description"], f"{path}.description")
    strict = described.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise wrong_type(f"{path}.strict", "a boolean", strict)
    for key in described:
        if key not in _SCHEMA_KEYS:
            raise InvalidRequest(f"Unknown parameter: '{path}.{key}'.", param=f"{path}.{key}", code="unknown_parameter")
    if described.get("schema") is None:
        return ANY_OBJECT
    schema = as_object(described["schema"], f"{path}.schema")
    if fault := schema_fault(schema):
        message = f"Invalid schema for response_format '{name}': {fault}."
        raise InvalidRequest(message, param=f"{path}.schema", code="invalid_json_schema")
    return schema


def _name(value: JsonValue, path: str) -> str:
    if value is None:
        raise missing(path)
    name = as_text(value, path)
    if not NAME.fullmatch(name):
        raise invalid_value(
            path, f"Invalid '{path}': {name!r} is not 1 to 64 of the characters a-z, A-Z, 0-9, _ and -."
        )
    return name
