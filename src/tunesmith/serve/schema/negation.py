"""`not`: the schemas of which one fits, where a given schema does not.

What a grammar cannot spell is left out, so fewer answers may be possible than the schema allows: that a number is not
whole or no multiple, that items are not unique, that an item beyond the first ones is of the kind, and that a property
outside of `properties` is there beside those within.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.schema.facts import type_of
from tunesmith.serve.schema.regular.automaton import spelled
from tunesmith.serve.schema.regular.reader import search
from tunesmith.serve.schema.regular.terms import Unreadable, complement
from tunesmith.serve.schema.view import TYPES

_Negation: TypeAlias = Callable[[JsonObject, JsonValue], Iterator[JsonObject]]

PLACES = 3  # the first items among which one that does not fit is looked for


def alternatives(view: JsonObject) -> Iterator[JsonObject]:
    """Schemas whose union is the complement of `view`, as far as it can be spelled."""
    for keyword, value in view.items():
        if keyword in _BY_KEYWORD:
            yield from _BY_KEYWORD[keyword](view, value)


def texts_without(words: list[str]) -> str:
    """A pattern for every text but `words`."""
    tree: dict[str, object] = {}
    for one in words:
        branch = tree
        for char in one:
            branch = branch.setdefault(char, {})  # type: ignore[assignment]
        branch[""] = True
    return f"^(?:{_outside(tree)})$"


def _outside(tree: dict[str, object]) -> str:
    chars = [char for char in tree if char]
    options = [] if "" in tree else [""]
    options.append(f"[^{''.join(map(_spelled_char, chars))}][\\s\\S]*" if chars else "[\\s\\S]+")
    options += [f"{_literal(char)}(?:{_outside(tree[char])})" for char in chars]  # type: ignore[arg-type]
    return "|".join(options)


def _literal(char: str) -> str:
    return f"[{_spelled_char(char)}]"


def _spelled_char(char: str) -> str:
    return char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):X}}}"


def _type(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    names = value if isinstance(value, list) else [value]
    others: list[JsonValue] = [
        name for name in TYPES if name not in names and not (name == "number" and "integer" in names)
    ]
    if others:
        yield {"type": others}


def _values(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    values = value if isinstance(value, list) else []
    kinds = {type_of(one) for one in values}
    if others := [name for name in TYPES if name not in kinds]:
        yield {"type": list[JsonValue](others)}
    if words := [one for one in values if isinstance(one, str)]:
        yield {"type": "string", "pattern": texts_without(words)}
    booleans = [one for one in values if isinstance(one, bool)]
    if len(set(booleans)) == 1:
        yield {"const": not booleans[0]}
    yield from _numbers_between(one for one in values if type_of(one) == "number" and isinstance(one, int | float))
    for one in values:
        if one in ([], {}) and len([other for other in values if type_of(other) == type_of(one)]) == 1:
            yield {"type": "array", "minItems": 1} if isinstance(one, list) else {"type": "object", "minProperties": 1}


def _numbers_between(numbers: Iterator[float]) -> Iterator[JsonObject]:
    bounds = [-math.inf, *sorted(set(numbers)), math.inf]
    for low, high in itertools.pairwise(bounds) if len(bounds) > 2 else ():
        between: JsonObject = {"type": "number"}
        if low != -math.inf:
            between["exclusiveMinimum"] = low
        if high != math.inf:
            between["exclusiveMaximum"] = high
        yield between


def _const(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    yield from _values(view, [value])


def _bound(kind: str, opposite: str, step: int) -> _Negation:
    """A count below the least or above the most."""

    def negation(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
        if isinstance(value, int | float) and value + step >= 0:
            yield {"type": kind, opposite: int(value) + step}

    return negation


def _limit(opposite: str) -> _Negation:
    def negation(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
        yield {"type": "number", opposite: value}

    return negation


def _pattern(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    if not isinstance(value, str):
        return
    try:
        pattern = spelled(complement(search(value)))
    except Unreadable:
        return
    if pattern is not None:
        yield {"type": "string", "pattern": pattern}


def _items(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    prefix = view.get("prefixItems")
    first = len(prefix) if isinstance(prefix, list) else 0
    if value is False:
        yield {"type": "array", "minItems": first + 1}
    elif value is not True:
        yield from (_with_item(place, {"not": value}) for place in range(first, first + PLACES))


def _prefix_items(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    for place, item in enumerate(value if isinstance(value, list) else ()):
        if item is not True:
            yield _with_item(place, {"not": item})


def _with_item(place: int, item: JsonValue) -> JsonObject:
    return {"type": "array", "prefixItems": [*[True] * place, item], "minItems": place + 1}


def _contains(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    if view.get("minContains", 1) != 0:
        yield {"type": "array", "items": {"not": value}}
    if isinstance(most := view.get("maxContains"), int | float):
        yield {"type": "array", "contains": value, "minContains": int(most) + 1}


def _required(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    for name in value if isinstance(value, list) else ():
        yield {"type": "object", "properties": {str(name): False}}


def _properties(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    for name, schema in value.items() if isinstance(value, dict) else ():
        if schema is not True and schema != {}:
            yield {"type": "object", "properties": {name: {"not": schema}}, "required": [name]}


def _additional(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    if value is True or value == {}:
        return
    listed, patterns = view.get("properties"), view.get("patternProperties")
    yield {
        "type": "object",
        "properties": dict.fromkeys(listed if isinstance(listed, dict) else (), False),
        "patternProperties": dict.fromkeys(patterns if isinstance(patterns, dict) else (), False),
        "additionalProperties": {"not": value},
        "minProperties": 1,
    }


def _pattern_properties(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    for pattern, schema in value.items() if isinstance(value, dict) else ():
        if schema is not True and schema != {}:
            yield {
                "type": "object",
                "patternProperties": {pattern: {"not": schema}},
                "additionalProperties": False,
                "minProperties": 1,
            }


def _property_names(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    yield {"type": "object", "propertyNames": {"not": value}, "minProperties": 1}


def _dependent_required(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    for name, needed in value.items() if isinstance(value, dict) else ():
        for other in needed if isinstance(needed, list) else ():
            if other != name:
                yield {"type": "object", "properties": {str(other): False}, "required": [name]}


def _dependent_schemas(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    for name, schema in value.items() if isinstance(value, dict) else ():
        yield {"allOf": [{"type": "object", "required": [name]}, {"not": schema}]}


def _all_of(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    yield from ({"not": schema} for schema in (value if isinstance(value, list) else ()))


def _any_of(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    none: list[JsonValue] = [{"not": schema} for schema in (value if isinstance(value, list) else ())]
    yield {"allOf": none}


def _one_of(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    yield from _any_of(view, value)
    branches = value if isinstance(value, list) else []
    for pair in itertools.combinations(branches, 2):
        yield {"allOf": [*pair]}


def _not(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    yield value if isinstance(value, dict) else {"allOf": [value]}


def _if(view: JsonObject, value: JsonValue) -> Iterator[JsonObject]:
    if "then" in view:
        yield {"allOf": [value, {"not": view["then"]}]}
    if "else" in view:
        yield {"allOf": [{"not": value}, {"not": view["else"]}]}


_BY_KEYWORD: dict[str, _Negation] = {
    "type": _type,
    "const": _const,
    "enum": _values,
    "minimum": _limit("exclusiveMaximum"),
    "maximum": _limit("exclusiveMinimum"),
    "exclusiveMinimum": _limit("maximum"),
    "exclusiveMaximum": _limit("minimum"),
    "minLength": _bound("string", "maxLength", -1),
    "maxLength": _bound("string", "minLength", 1),
    "minItems": _bound("array", "maxItems", -1),
    "maxItems": _bound("array", "minItems", 1),
    "minProperties": _bound("object", "maxProperties", -1),
    "maxProperties": _bound("object", "minProperties", 1),
    "pattern": _pattern,
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": _contains,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "patternProperties": _pattern_properties,
    "propertyNames": _property_names,
    "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
}
