"""`propertyNames` as a regular language."""

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.schema_document import REFERENCES, SchemaDocument
from tunesmith.serve.schema.regular.reader import search
from tunesmith.serve.schema.regular.terms import (
    ANY,
    ANYTHING,
    NOTHING,
    Term,
    Unreadable,
    both,
    chars,
    complement,
    either,
    repeated,
    word,
)
from tunesmith.serve.schema.view import viewed

MAX_LENGTH = 256


def name_term(document: SchemaDocument, schema: JsonValue, *, strict: bool = False, depth: int = 16) -> Term:
    """The texts that fit `schema`. Raises Unreadable where that is not to be told."""
    if not isinstance(schema, dict):
        return NOTHING if schema is False else ANYTHING
    if not depth:
        raise Unreadable("schemas nested this deeply")
    view = viewed(document, schema, strict=strict)

    def inner(part: JsonValue) -> Term:
        return name_term(document, part, strict=strict, depth=depth - 1)

    parts = list(_own(view))
    parts += [inner(part) for part in _list(view.get("allOf"))]
    if "anyOf" in view:
        parts.append(either(*map(inner, _list(view["anyOf"]))))
    if "not" in view:
        parts.append(complement(name_term(document, view["not"], strict=not strict, depth=depth - 1)))
    parts += [_target(document, schema, keyword, strict, depth) for keyword in REFERENCES if keyword in view]
    if others := view.keys() & {"oneOf", "if"}:
        raise Unreadable(f"'{min(others)}' in it")
    return both(ANYTHING, *parts)


def _own(view: JsonObject) -> list[Term]:
    found: list[Term] = []
    if "type" in view and "string" not in (view["type"] if isinstance(view["type"], list) else [view["type"]]):
        found.append(NOTHING)
    if isinstance(pattern := view.get("pattern"), str):
        found.append(search(pattern))
    for keyword, values in (("const", [view.get("const")]), ("enum", _list(view.get("enum")))):
        if keyword in view:
            found.append(either(*(word(value) for value in values if isinstance(value, str))))
    least, most = _count(view.get("minLength")) or 0, _count(view.get("maxLength"))
    if least or most is not None:
        found.append(repeated(chars(ANY), least, most, MAX_LENGTH))
    return found


def _target(document: SchemaDocument, schema: JsonObject, keyword: str, strict: bool, depth: int) -> Term:
    try:
        target = document.resolve(schema, keyword)
    except LookupError as error:
        raise Unreadable(str(error)) from None
    return name_term(document, target, strict=strict, depth=depth - 1)


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _count(value: JsonValue) -> int | None:
    return int(value) if isinstance(value, int | float) else None
