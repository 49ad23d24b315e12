"""Keywords that choose between schemas, as `anyOf`, `allOf` and `not`."""

from collections.abc import Iterator

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.schema.facts import Facts
from tunesmith.serve.schema.view import TYPES

MAX_PAIRS = 100  # of branches that may both fit, counted from both sides


class Overlap(ValueError):
    """Branches that cannot be told apart; the end of a sentence."""


def one_of(branches: list[JsonValue], facts: Facts, within: frozenset[str]) -> JsonObject:
    """`oneOf` as an `anyOf` of branches without those others that may fit too.

    `within` are the types that a value can have at all. Raises Overlap.
    """
    options: list[JsonValue] = []
    pairs = 0
    for index, branch in enumerate(branches):
        others = [other for place, other in enumerate(branches) if place != index]
        besides: list[JsonValue] = []
        for other in others:
            if not facts.exclude(branch, other, within):
                besides.append({"not": other})
                pairs += 1
                if pairs > MAX_PAIRS:
                    raise Overlap("too many branches of 'oneOf' may fit together; give them a 'const', or use 'anyOf'")
        options.append({"allOf": [branch, *besides]} if besides else branch)
    return {"anyOf": options}


def conditional(view: JsonObject) -> JsonObject:
    """`if`, `then` and `else`."""
    condition = view["if"]
    return {
        "anyOf": [
            {"allOf": [condition, view.get("then", True)]},
            {"allOf": [{"not": condition}, view.get("else", True)]},
        ]
    }


def dependent(view: JsonObject) -> Iterator[JsonObject]:
    """What a property asks for by being there."""
    required, schemas = view.get("dependentRequired"), view.get("dependentSchemas")
    for name, needed in required.items() if isinstance(required, dict) else ():
        if isinstance(needed, list) and needed:
            yield _where(name, {"required": [name, *(other for other in needed if other != name)]})
    for name, schema in schemas.items() if isinstance(schemas, dict) else ():
        yield _where(name, {"required": [name], "allOf": [schema]})


def or_another_type(kind: str, options: list[JsonObject], possible: frozenset[str]) -> JsonObject:
    """One of the options, which are of the type `kind`, or another type."""
    others: list[JsonValue] = [name for name in TYPES if name != kind and name in possible]
    rest: list[JsonValue] = [{"type": others}] if others else []
    return {"anyOf": [*rest, *({"type": kind, **option} for option in options)]}


def _where(name: str, consequence: JsonObject) -> JsonObject:
    return or_another_type("object", [{"properties": {name: False}}, consequence], frozenset(TYPES))
