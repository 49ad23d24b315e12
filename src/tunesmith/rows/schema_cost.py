"""How much work a JSON schema makes, before anything is checked against it.

`$defs` d0 to d26 that are each an `anyOf` of the next one twice take 2**26 steps: a validator follows every path. The
pattern `(a{0,200}){0,200}` comes to 40,000 states when its repeats are written out, and telling whether a text of 2,000
characters fits it takes minutes: each repeat inside of another may be anywhere in its count at each character.
"""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.schema_document import SchemaDocument

_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_EACH = (
    *("additionalProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "contains", "items"),
    "additionalItems",
)
MOST = 10**12  # what is more is not told apart
_CLASS = re.compile(r"\[\^?+\]?+(?:[^\]\\]|\\.)*+\]?+", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[pP]\{[^{}]*+\}|[uU]\{[^{}]*+\}|.)", re.DOTALL)
_REPEAT = re.compile(r"[*+?]|\{(\d{1,12}+)(,?)(\d{0,12}+)\}")


def schema_steps(document: SchemaDocument, depth: int) -> float:
    """Upper bound of the schemas visited for one path into a value.

    The path is `depth` levels long. Infinite where a schema leads back to itself without descending into the value.
    """
    try:
        return _Steps(document).of(document.root, depth)
    except RecursionError:
        return math.inf


def nesting(value: JsonValue) -> int:
    """The levels of a parsed value: 0 for a scalar or an empty list."""
    levels, layer = 0, [value]
    while layer := [child for parent in layer for child in _children(parent)]:
        levels += 1
    return levels


def _children(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


class _Steps:
    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._known: dict[tuple[int, int], float] = {}

    def of(self, node: JsonValue, depth: int) -> float:
        if not isinstance(node, dict):
            return 0
        key = (id(node), depth)
        if key not in self._known:
            self._known[key] = math.inf  # what it stays where the way leads back here
            self._known[key] = 1 + self._here(node, depth) + (self._below(node, depth - 1) if depth else 0)
        return self._known[key]

    def _here(self, node: JsonObject, depth: int) -> float:
        return _names(node) + sum(self.of(part, depth) for part in self._in_place(node))

    def _in_place(self, node: JsonObject) -> Iterator[JsonValue]:
        with suppress(LookupError):  # the validator says so, in its words
            yield from (target for _, target in self._document.targets(node))
        for keyword in _IN_PLACE:
            value = node.get(keyword)
            yield from value if isinstance(value, list) else [value]
        for keyword in _IN_PLACE_MAPS:
            if isinstance(value := node.get(keyword), dict):
                yield from value.values()

    def _below(self, node: JsonObject, depth: int) -> float:
        """A property meets its own schema, and each of those for any property."""
        total = max((self.of(part, depth) for part in _values(node.get("properties"))), default=0)
        total += sum(self.of(part, depth) for part in _values(node.get("patternProperties")))
        for keyword in _EACH:
            value = node.get(keyword)
            total += max((self.of(part, depth) for part in (value if isinstance(value, list) else [value])), default=0)
        prefix = node.get("prefixItems")
        return total + max((self.of(part, depth) for part in (prefix if isinstance(prefix, list) else [])), default=0)


def _names(node: JsonObject) -> int:
    """The names that must be there: each that is not is an error of its own."""
    lists = [node.get("required"), *_values(node.get("dependentRequired"))]
    return sum(len(names) for names in lists if isinstance(names, list))


def _values(value: JsonValue) -> list[JsonValue]:
    return list(value.values()) if isinstance(value, dict) else []


@dataclass(frozen=True, slots=True)
class Cost:
    """What a pattern comes to.

    `states`: with its repeats written out; `nested`: of those, the ones of repeats within repeats.
    """

    states: int = 0
    nested: int = 0
    repeats: bool = False

    def __add__(self, other: "Cost") -> "Cost":
        states, nested = self.states + other.states, self.nested + other.nested
        return Cost(min(states, MOST), min(nested, MOST), self.repeats or other.repeats)

    def times(self, count: int) -> "Cost":
        """The cost of so many copies, one after the other."""
        states = min(self.states * max(count, 1), MOST)
        nested = states if self.repeats and count > 1 else self.nested
        return Cost(states, nested, repeats=True)


_ONE = Cost(1)


def pattern_cost(pattern: str) -> Cost:
    """The cost of one pattern, read as far as it can be.

    Whether it is one is for others to say.
    """
    groups, last, at = [Cost()], Cost(), 0
    while at < len(pattern):
        char = pattern[at]
        if char == "(":
            groups[-1] += last
            groups.append(Cost())
            last, at = Cost(), at + (3 if pattern.startswith(("(?:", "(?=", "(?!"), at) else 1)
        elif char == ")" and len(groups) > 1:
            last, at = groups.pop() + last, at + 1
        elif found := _REPEAT.match(pattern, at):
            last, at = _repeated(last, found), found.end()
        else:
            whole = (_CLASS if char == "[" else _ESCAPE).match(pattern, at) if char in "[\\" else None
            groups[-1] += last
            last, at = Cost() if char == "|" else _ONE, whole.end() if whole else at + 1
    return sum((*groups, last), Cost())


def patterns_cost(schema: JsonValue) -> Cost:
    """The cost of all patterns in a schema."""
    return sum((pattern_cost(one) for one in _patterns(schema)), Cost())


def _repeated(part: Cost, found: re.Match[str]) -> Cost:
    if found[1] is None:
        return replace(part, repeats=part.repeats or found[0] != "?")
    return part.times(int(found[3] or found[1]))


def _patterns(schema: JsonValue) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            pattern, named = one.get("pattern"), one.get("patternProperties")
            if isinstance(pattern, str):
                yield pattern
            if isinstance(named, dict):
                yield from named
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
