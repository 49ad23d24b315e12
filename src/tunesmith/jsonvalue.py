"""JSON types, for values from the wire that have not been validated yet."""

import json
import re
from typing import TypeAlias

import orjson

JsonScalar: TypeAlias = bool | int | float | str | None
JsonValue: TypeAlias = "JsonScalar | list[JsonValue] | dict[str, JsonValue]"
JsonObject: TypeAlias = dict[str, JsonValue]

_MANY_DIGITS = re.compile(rb"\d{19}")


def exact_json(text: str | bytes) -> JsonValue:
    """The value of a JSON text, with every digit of its whole numbers.

    The usual parser turns those beyond 64 bits into floating-point ones. ValueError or RecursionError for what is no
    JSON.
    """
    value: JsonValue = orjson.loads(text)  # the stricter judge of what is JSON
    data = text.encode() if isinstance(text, str) else text
    return json.loads(data) if _MANY_DIGITS.search(data) else value
