"""JSON schemas as grammars, and what of a schema is not supported.

A schema is read as JSON Schema 2020-12, or as its `$schema` says. The grammar is stricter than the schema in three
things: properties come in the schema's order; between two parts there is at most one space, or one line break with its
indentation (otherwise a small model may write white space to its limit); and where an object may have other properties
than those listed, a string has no `\\uXXXX`, which could spell a listed name past its schema.
"""

import re
from collections.abc import Iterator

import orjson
from llguidance import LLMatcher

from tunesmith.jsonvalue import JsonObject, JsonValue

MAX_SCHEMA_BYTES = 200_000  # 150 kB with 5,000 optional properties take 0.6 s to check and 1.7 s to compile
LOCATED_BYTES = 20_000  # in a larger schema a fault is named without its place, which takes many checks to find
WHITESPACE = r"[ \t]|\r?\n[ \t]{0,40}"
ANY_OBJECT: JsonObject = {"type": "object"}
NO_ARGUMENTS: JsonObject = {"type": "object", "properties": {}, "additionalProperties": False}

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalProperties", "additionalItems")
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\u00[01]")
_FAULTS = (
    (r'Unimplemented keys: \["(.*)"\]', "unsupported keyword '{}'"),
    (r"Unknown format: (.*)", "the 'format' '{}' is not known"),
    (r"(?s)regex parse error.*error: (.*)", "this 'pattern' is not supported: {}"),
    (r"oneOf constraints", "'oneOf' is supported only where its branches exclude each other for certain; use 'anyOf'"),
    (r"min/maxProperties only", "'minProperties' and 'maxProperties' need every listed property to be 'required'"),
    (r"Resource '(.*)' is not present", "the '$ref' '{}' does not point into this schema"),
    (r"recursion limit exceeded", "it is nested too deeply"),
)


def json_rule(schema: JsonObject) -> str:
    """The right side of a rule in llguidance's Lark syntax.

    The schema must have no `schema_fault`.
    """
    return f"%json {_guided(schema).decode()}"


def arguments_schema(parameters: JsonObject | None) -> JsonObject:
    """A function's `parameters` as the schema of its arguments.

    They are an object whether the schema says so or not.
    """
    if parameters is None:
        return NO_ARGUMENTS
    return parameters if "type" in parameters or "$ref" in parameters else {"type": "object", **parameters}


def schema_fault(schema: JsonObject) -> str | None:
    """Why no answer can be held to `schema`, as the end of a sentence.

    None when one can.
    """
    try:
        size = len(orjson.dumps(schema))
    except orjson.JSONEncodeError:
        return "it is nested too deeply"
    if size > MAX_SCHEMA_BYTES:
        return f"it has {size} bytes, the limit is {MAX_SCHEMA_BYTES}"
    for path, sub in _subschemas(schema):
        if fault := _own_fault(sub):
            return _at(path, fault)
    if _open_to_names(schema) and _CONTROL.search(orjson.dumps(schema)):
        return "control characters are not supported where an object may have properties that are not listed"
    found = _compile_fault(schema) or _newer_keyword(schema)
    if found is None:
        return None
    return _at(_place(schema, found) if size <= LOCATED_BYTES else (), _in_words(found))


def _at(path: tuple[str, ...], fault: str) -> str:
    return f"at {'.'.join(path)}, {fault}" if path else fault


def _compile_fault(schema: JsonObject) -> str | None:
    grammar: str = LLMatcher.grammar_from_json_schema(_guided(schema).decode())
    return LLMatcher.validate_grammar(grammar) or None


def _newer_keyword(schema: JsonObject) -> str | None:
    """An older `$schema` would make newer keywords meaningless, though they were meant to count."""
    if "$schema" not in schema:
        return None
    fault = _compile_fault({key: value for key, value in schema.items() if key != "$schema"})
    return fault if fault is not None and fault.startswith("Unimplemented keys") else None


def _own_fault(schema: JsonObject) -> str | None:
    """What llguidance would take and not hold to: names outside of `properties` may repeat, and count twice."""
    least, required = schema.get("minProperties"), schema.get("required")
    named = len(required) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(1, named):
        return "'minProperties' above 1 is not supported beyond the properties that are 'required'"
    return _bounds_fault(schema)


def _bounds_fault(schema: JsonObject) -> str | None:
    """llguidance 1.9 lets a whole number pass that is excluded, where the other bound is a fraction beside it."""
    lows, highs = _bounds(schema, "minimum", "exclusiveMinimum"), _bounds(schema, "maximum", "exclusiveMaximum")
    if not lows or not highs or min(highs.values()) - max(lows.values()) >= 1:
        return None
    for keyword, bound in (lows | highs).items():
        if keyword.startswith("exclusive") and bound.is_integer():
            return f"'{keyword}' {bound:g} is not supported where the other bound is less than 1 away"
    return None


def _bounds(schema: JsonObject, *keywords: str) -> dict[str, float]:
    found = ((keyword, schema.get(keyword)) for keyword in keywords)
    return {key: float(value) for key, value in found if isinstance(value, int | float) and not isinstance(value, bool)}


def _guided(schema: JsonObject) -> bytes:
    """With our options for llguidance in the place of any that came along."""
    guidance: JsonObject = {"whitespace_pattern": WHITESPACE}
    if _open_to_names(schema):
        guidance["json_allowed_escapes"] = 'nrbtf\\"'
    else:
        guidance["json_allow_general_unicode_escapes"] = True  # many a row was written with ASCII only
    return orjson.dumps({**schema, "x-guidance": guidance})


def _open_to_names(schema: JsonObject) -> bool:
    return any(
        "patternProperties" in sub or (sub.get("properties") and sub.get("additionalProperties") is not False)
        for _, sub in _subschemas(schema)
    )


def _subschemas(schema: JsonObject, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], JsonObject]]:
    yield path, schema
    for name, child in _children(schema):
        yield from _subschemas(child, (*path, name))


def _children(schema: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for name, child in _child_values(schema):
        if isinstance(child, dict):
            yield name, child


def _child_values(schema: JsonObject) -> Iterator[tuple[str, JsonValue]]:
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            yield from ((f"{keyword}.{name}", child) for name, child in value.items())
        elif keyword in _LISTS and isinstance(value, list):
            yield from ((f"{keyword}[{index}]", child) for index, child in enumerate(value))
        elif keyword in _SINGLE:
            yield keyword, value


def _place(schema: JsonObject, fault: str) -> tuple[str, ...]:
    """Path of the innermost part that has the same fault by itself; () for the whole."""
    shared: JsonObject = {key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}
    path: tuple[str, ...] = ()
    part: JsonObject | None = schema
    while part is not None:
        children, part = _children(part), None
        for name, child in children:
            if (_compile_fault({**shared, **child}) or _newer_keyword({**shared, **child})) == fault:
                path, part = (*path, name), child
                break
    return path


def _in_words(fault: str) -> str:
    for pattern, words in _FAULTS:
        if match := re.match(pattern, fault):
            return words.format(*(group.replace('", "', "', '") for group in match.groups()))
    return fault.partition("\n")[0]
