"""What is certain of a schema: its types, values, and what it excludes."""

import itertools
import math
from collections.abc import Iterator

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.schema_document import REFERENCES, SchemaDocument
from tunesmith.serve.schema.regular.automaton import spelled
from tunesmith.serve.schema.regular.reader import search
from tunesmith.serve.schema.regular.terms import Unreadable, both, either, word
from tunesmith.serve.schema.view import TYPES, viewed

MAX_DEPTH = 8  # references and branches followed for an answer here; beyond it is unknown
ALL_TYPES = frozenset(TYPES)
_BOUNDS = {
    "number": ("minimum", "maximum"),
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


class Facts:
    """Answers for the parts of one document."""

    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._disjoint: dict[tuple[int, int, frozenset[str]], bool] = {}
        self._types: dict[tuple[int, int], frozenset[str]] = {}
        self._values: dict[tuple[int, int], list[JsonValue] | None] = {}
        self._names: dict[tuple[int, int], dict[str, None]] = {}
        self._kept: list[JsonObject] = []  # alive, as they are known by identity

    def types(self, node: JsonValue, depth: int = MAX_DEPTH) -> frozenset[str]:
        """The types that its values can have; `integer` counts as `number`."""
        if not isinstance(node, dict):
            return frozenset() if node is False else ALL_TYPES
        key = (id(node), depth)
        if key not in self._types:
            self._kept.append(node)
            self._types[key] = self._find_types(node, depth)
        return self._types[key]

    def _find_types(self, node: JsonObject, depth: int) -> frozenset[str]:
        view = viewed(self._document, node, strict=True)
        found = frozenset(TYPES)
        if "type" in view:
            found &= _named_types(view["type"])
        if (values := _listed(view)) is not None:
            found &= {type_of(value) for value in values}
        if depth:
            for part in self._parts(node, view):
                found &= self.types(part, depth - 1)
            for branches in self._choices(view):
                found &= frozenset().union(*(self.types(branch, depth - 1) for branch in branches))
        return found

    def values(self, node: JsonValue, depth: int = MAX_DEPTH) -> list[JsonValue] | None:
        """A list with all of its values and perhaps more; None where there are too many."""
        if not isinstance(node, dict):
            return [] if node is False else None
        key = (id(node), depth)
        if key not in self._values:
            self._kept.append(node)
            self._values[key] = self._find_values(node, depth)
        return self._values[key]

    def _find_values(self, node: JsonObject, depth: int) -> list[JsonValue] | None:
        view = viewed(self._document, node, strict=True)
        if (values := _listed(view)) is not None:
            return values
        if view.get("type") == "null":
            return [None]
        if view.get("type") == "boolean":
            return [True, False]
        parts = self._parts(node, view) if depth else ()
        return next((found for part in parts if (found := self.values(part, depth - 1)) is not None), None)

    def names(self, node: JsonValue, depth: int = MAX_DEPTH) -> dict[str, None]:
        """The properties that it lists, itself or in what it refers to, in order."""
        if not isinstance(node, dict):
            return {}
        key = (id(node), depth)
        if key not in self._names:
            self._kept.append(node)
            self._names[key] = self._find_names(node, depth)
        return self._names[key]

    def _find_names(self, node: JsonObject, depth: int) -> dict[str, None]:
        view = viewed(self._document, node)
        listed = view.get("properties")
        found = dict.fromkeys(listed if isinstance(listed, dict) else ())
        if depth:
            for part in [*self._parts(node, view), *itertools.chain(*self._choices(view))]:
                found |= self.names(part, depth - 1)
        return found

    def exclude(
        self, one: JsonValue, other: JsonValue, within: frozenset[str] = ALL_TYPES, depth: int = MAX_DEPTH
    ) -> bool:
        """Whether, for certain, no value of the types `within` fits both."""
        if one is False or other is False:
            return True
        if not isinstance(one, dict) or not isinstance(other, dict) or not depth:
            return False
        key = (id(one), id(other), within)
        if key not in self._disjoint:
            self._kept += [one, other]
            self._disjoint[key] = False  # where the way leads back here, nothing is certain
            self._disjoint[key] = self._exclude(one, other, within, depth - 1)
        return self._disjoint[key]

    def _exclude(self, one: JsonObject, other: JsonObject, within: frozenset[str], depth: int) -> bool:
        shared = self.types(one) & self.types(other) & within
        if not shared or self._apart(one, other, depth):
            return True
        views = viewed(self._document, one, strict=True), viewed(self._document, other, strict=True)
        for node, view, against in ((one, views[0], other), (other, views[1], one)):
            if any(self.exclude(part, against, shared, depth) for part in self._parts(node, view)):
                return True
            if any(all(self.exclude(b, against, shared, depth) for b in some) for some in self._choices(view)):
                return True
        return all(self._split(kind, *views, depth) for kind in shared)

    def _split(self, kind: str, one: JsonObject, other: JsonObject, depth: int) -> bool:
        """Whether the keywords about values of the type `kind` exclude each other."""
        if kind == "object":
            names = {str(name) for view in (one, other) for name in _list(view.get("required"))}
            return any(
                self.exclude(_property(one, name), _property(other, name), depth=depth) for name in sorted(names)
            )
        return _out_of_bounds(kind, one, other) or (kind == "string" and _spelled_apart(one, other))

    def _apart(self, one: JsonObject, other: JsonObject, depth: int) -> bool:
        """Whether the values of one can all be listed and are none of the other's."""
        mine, others = self.values(one, depth), self.values(other, depth)
        if mine is None or others is None:
            return False
        scalars = [{(type_of(one), one) for one in some if not isinstance(one, list | dict)} for some in (mine, others)]
        if not scalars[0].isdisjoint(scalars[1]):
            return False
        nested = [[one for one in some if isinstance(one, list | dict)] for some in (mine, others)]
        return not any(equal(value, different) for value in nested[0] for different in nested[1])

    def _parts(self, node: JsonObject, view: JsonObject) -> Iterator[JsonValue]:
        """The schemas that all hold together with the view's own keywords."""
        yield from _list(view.get("allOf"))
        for keyword in REFERENCES:
            if keyword in view:
                try:
                    yield self._document.resolve(node, keyword)
                except LookupError:
                    continue

    def _choices(self, view: JsonObject) -> Iterator[list[JsonValue]]:
        for keyword in ("anyOf", "oneOf"):
            if keyword in view:
                yield _list(view[keyword])


def type_of(value: JsonValue) -> str:
    """The JSON type; whole numbers are numbers."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def equal(one: JsonValue, other: JsonValue) -> bool:
    """Equal as JSON: 1 is 1.0 and is not true."""
    if type_of(one) != type_of(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    return one == other


def _named_types(given: JsonValue) -> frozenset[str]:
    names = given if isinstance(given, list) else [given]
    return frozenset("number" if name == "integer" else str(name) for name in names)


def _listed(view: JsonObject) -> list[JsonValue] | None:
    return [view["const"]] if "const" in view else _list(view["enum"]) if "enum" in view else None


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _property(view: JsonObject, name: str) -> JsonValue:
    """What is certain to hold for the property `name`."""
    listed = view.get("properties")
    if isinstance(listed, dict) and name in listed:
        return listed[name]
    return view.get("additionalProperties", True) if not view.get("patternProperties") else True


def _out_of_bounds(kind: str, one: JsonObject, other: JsonObject) -> bool:
    if kind not in _BOUNDS:
        return False
    least, most = _BOUNDS[kind]
    pairs = ((one, other), (other, one))
    return any(_number(low.get(least), -math.inf) > _number(high.get(most), math.inf) for low, high in pairs)


def _number(value: JsonValue, default: float) -> float:
    return value if isinstance(value, int | float) else default


def _spelled_apart(one: JsonObject, other: JsonObject) -> bool:
    """Whether no text has both patterns, or is listed in one and has the other's pattern."""
    terms = []
    for view in (one, other):
        pattern, listed = view.get("pattern"), _listed(view)
        words = [value for value in listed or () if isinstance(value, str)]
        if not isinstance(pattern, str) and listed is None:
            return False
        try:
            terms.append(search(pattern) if isinstance(pattern, str) else either(*map(word, words)))
        except Unreadable:
            return False
    try:
        return spelled(both(*terms)) is None
    except Unreadable:
        return False
