"""The names and the number of properties, as `properties` and `required`."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.schema.regular.automaton import matches, spelled
from tunesmith.serve.schema.regular.reader import search
from tunesmith.serve.schema.regular.terms import Term, Unreadable, both, complement

MAX_OBJECTS = 330
MAX_NAMES = 40  # optional properties of which one can be asked for


class TooMany(ValueError):
    """Too many objects would have to be spelled; the end of a sentence."""


@dataclass(frozen=True, slots=True)
class _Counted:
    names: tuple[str, ...]  # optional properties that are listed
    required: tuple[str, ...]
    least: int  # of what is not required
    most: float
    closed: bool


def counted(view: JsonObject, names: Iterable[str]) -> list[JsonObject] | None:
    """Objects of which one must fit, for `minProperties` and `maxProperties`.

    `names` are all that may be listed. None where a grammar can count by itself. Raises TooMany.
    """
    required = tuple(dict.fromkeys(str(name) for name in _list(view.get("required"))))
    listed = view.get("properties")
    never = {name for name, schema in _items(listed) if schema is False}
    optional = tuple(name for name in names if name not in required and name not in never)
    if not optional:
        return None
    closed = view.get("additionalProperties") is False and not view.get("patternProperties")
    least = int(max(0, _count(view.get("minProperties"), 0) - len(required)))
    most = _count(view.get("maxProperties"), math.inf) - len(required)
    if most < 0:
        return []
    if closed and most >= len(optional):
        most = math.inf
    if least == 0 and most == math.inf:
        return [{}]
    asked = _Counted(optional, required, least, most, closed)
    return _some_of(asked) if most == math.inf else _few_of(asked)


def _some_of(asked: _Counted) -> list[JsonObject]:
    """At least so many of the names, by which come first; or one fewer, and one that is not listed."""
    names, least = asked.names, asked.least
    if len(names) > MAX_NAMES or math.comb(len(names), min(least, len(names) // 2)) > MAX_OBJECTS:
        raise TooMany(f"'minProperties' is not supported with {len(names)} optional properties")
    firsts = itertools.combinations(names, least)
    found = [_with(names, chosen, names[names.index(chosen[-1]) + 1 :]) for chosen in firsts]
    if not asked.closed:
        fewer = itertools.combinations(names, least - 1)
        found += [{**_counting(asked, chosen), "minProperties": len(asked.required) + least} for chosen in fewer]
    return found


def _few_of(asked: _Counted) -> list[JsonObject]:
    """Exactly so many of the names, for every number that is allowed."""
    names, least, most = asked.names, asked.least, int(asked.most)
    sizes = range(max(0, least if asked.closed else least - 1), min(most, len(names)) + 1)
    if sum(math.comb(len(names), size) for size in sizes) > MAX_OBJECTS:
        raise TooMany(f"'maxProperties' is not supported with {len(names)} optional properties")
    found: list[JsonObject] = []
    for size in sizes:
        total: JsonObject = {} if asked.closed else {"maxProperties": len(asked.required) + most}
        if not asked.closed and size < least:
            total["minProperties"] = len(asked.required) + least
        found += [{**_counting(asked, chosen), **total} for chosen in itertools.combinations(names, size)]
    return found


def _counting(asked: _Counted, chosen: tuple[str, ...]) -> JsonObject:
    """With all required names, as their number is what a grammar counts from."""
    return {**_with(asked.names, chosen), "required": [*asked.required, *chosen]}


def _with(names: tuple[str, ...], chosen: tuple[str, ...], free: tuple[str, ...] = ()) -> JsonObject:
    out = [name for name in names if name not in chosen and name not in free]
    found: JsonObject = {"required": list[JsonValue](chosen)} if chosen else {}
    return {**found, "properties": dict.fromkeys(out, False)} if out else found


def named(view: JsonObject, names: Term) -> JsonObject:
    """The view without `propertyNames`, with properties of only these `names`."""
    listed, patterns = view.get("properties"), view.get("patternProperties")
    inside = {key: schema if matches(names, key) else False for key, schema in _items(listed)}
    cells: JsonObject = {}
    rest = names
    for pattern, schema in _items(patterns):
        term = search(pattern)
        rest = both(rest, complement(term))
        if (narrowed := spelled(both(names, term))) is not None:
            cells[narrowed] = schema
    additional = view.get("additionalProperties", True)
    if additional is not False and (others := spelled(rest)) is not None:
        cells[others] = additional
    kept = {key: value for key, value in view.items() if key != "propertyNames"}
    return {**kept, "properties": inside, "patternProperties": cells, "additionalProperties": False}


def disjoint_patterns(view: JsonObject) -> JsonObject:
    """The view with `patternProperties` of which at most one matches any name."""
    patterns = view.get("patternProperties")
    if not isinstance(patterns, dict) or len(patterns) < 2:
        return view
    try:
        terms = {pattern: search(pattern) for pattern in patterns}
        if all(spelled(both(terms[a], terms[b])) is None for a, b in itertools.combinations(patterns, 2)):
            return view
        cells = dict(_cells(terms))
    except Unreadable:
        return view
    split: JsonObject = {
        cell: {"allOf": [patterns[name] for name in names]} if len(names) > 1 else patterns[names[0]]
        for cell, names in cells.items()
    }
    return {**view, "patternProperties": split}


def _cells(terms: dict[str, Term]) -> Iterator[tuple[str, list[str]]]:
    """A pattern for each set of patterns that match together."""
    for flags in itertools.islice(itertools.product((True, False), repeat=len(terms)), 2**8):
        names = [name for name, flag in zip(terms, flags, strict=True) if flag]
        parts = [term if name in names else complement(term) for name, term in terms.items()]
        if names and (pattern := spelled(both(*parts))) is not None:
            yield pattern, names
    if len(terms) > 8:
        raise Unreadable("more than 8 patterns that overlap")


def _items(value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    yield from value.items() if isinstance(value, dict) else ()


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _count(value: JsonValue, default: float) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default
