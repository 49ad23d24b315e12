"""Schemas that no finite answer fits, because one would have to contain itself.

Of a plain schema, the parts that can be finished are found from below: one is, when all that it asks for are.
"""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.schema_document import SchemaDocument
from tunesmith.serve.schema.view import TOO_MUCH_WORK, TYPES, Unheld, viewed

MAX_CHOICES = 200  # combinations of `anyOf` looked at; beyond, one is taken to be possible
MAX_STEPS = 300_000  # parts that hold together, looked at; they take about 0.3 s
_IN_PLACE = ("allOf", "anyOf", "oneOf")


def check_descent(document: SchemaDocument) -> None:
    """Raises Unheld where a reference leads back to itself in the same place."""
    done: set[int] = set()
    for start in document.referring():
        open_parts: dict[int, None] = {}
        stack = [(start, False)]
        while stack:
            node, left = stack.pop()
            if left:
                open_parts.pop(id(node), None)
                done.add(id(node))
            elif id(node) in open_parts:
                raise Unheld(document.path(node), "a '$ref' leads back to itself, so no answer can be told to fit")
            elif id(node) not in done:
                open_parts[id(node)] = None
                stack.append((node, True))
                stack += [(part, False) for part in _in_place(document, node)]


def _in_place(document: SchemaDocument, node: JsonObject) -> Iterator[JsonObject]:
    view = viewed(document, node)
    parts: list[JsonValue] = [view.get(keyword) for keyword in ("not", "if", "then", "else")]
    for keyword in _IN_PLACE:
        parts += _list(view.get(keyword))
    dependent = view.get("dependentSchemas")
    parts += dependent.values() if isinstance(dependent, dict) else ()
    with suppress(LookupError):  # named when it is followed
        parts += (target for keyword, target in document.targets(node) if keyword in view)
    yield from (part for part in parts if isinstance(part, dict))


@dataclass(frozen=True, slots=True)
class _Whole:
    """All keywords that hold together, with one choice made at each `anyOf`."""

    parts: tuple[JsonObject, ...]

    def types(self) -> set[str]:
        found = set(TYPES)
        for part in self.parts:
            named = part.get("type", list(TYPES))
            found &= {"number" if n == "integer" else str(n) for n in (named if isinstance(named, list) else [named])}
        return found

    def needed(self) -> Iterator[JsonValue]:
        """The schemas of what cannot be left out of an object or a list."""
        if "object" in self.types():
            names = {str(name): None for part in self.parts for name in _list(part.get("required"))}
            for name in names:
                yield from (_property(part, name) for part in self.parts)
        else:
            least = max((n for part in self.parts if isinstance(n := part.get("minItems"), int | float)), default=0)
            for place in range(min(int(least), 1 + max(len(_list(part.get("prefixItems"))) for part in self.parts))):
                yield from (_item(part, place) for part in self.parts)


class Grounding:
    """Which parts of a plain schema can be finished."""

    def __init__(self, root: JsonObject) -> None:
        definitions = root.get("$defs")
        self._definitions: JsonObject = definitions if isinstance(definitions, dict) else {}
        self._finished: dict[str, bool] = dict.fromkeys(self._definitions, False)
        self._done: set[int] = set()  # what can be finished stays so
        self._open: set[int] = set()
        self._steps = 0
        changed = True
        while changed:
            changed = False
            for name in reversed(self._definitions):
                if not self._finished[name] and self.can_finish(self._definitions[name]):
                    self._finished[name] = changed = True

    def can_finish(self, schema: JsonValue) -> bool:
        """Whether some finite value may fit."""
        if id(schema) in self._done:
            return True
        if id(schema) in self._open:
            return False
        self._open.add(id(schema))
        found = self.obstacle(schema) is None
        self._open.discard(id(schema))
        if found and isinstance(schema, dict):
            self._done.add(id(schema))
        return found

    def obstacle(self, schema: JsonValue) -> JsonValue:
        """A part that is needed and cannot be finished, or `schema` itself.

        None where it can be finished.
        """
        if not isinstance(schema, dict):
            return None if schema is not False else False
        if (name := _name(schema)) is not None and len(schema) == 1:
            return None if self._finished.get(name, True) else schema
        if schema.keys() <= {"anyOf", "$defs"} and "anyOf" in schema:  # no need to look at what holds together
            branches = _list(schema["anyOf"])
            return None if any(map(self.can_finish, branches)) else (branches[0] if branches else schema)
        wholes = list(itertools.islice(self._wholes(schema), MAX_CHOICES + 1))
        if len(wholes) > MAX_CHOICES:
            return None
        first: JsonValue = schema
        for whole in wholes:
            stuck = next((part for part in self._stuck(whole)), None)
            if stuck is None:
                return None
            first = stuck
        return first

    def _stuck(self, whole: _Whole) -> Iterator[JsonValue]:
        types = whole.types()
        if types and types not in ({"object"}, {"array"}):
            return
        yield from (part for part in whole.needed() if not self.can_finish(part))
        if not types:
            yield whole.parts[0]

    def _wholes(self, schema: JsonValue) -> Iterator[_Whole]:
        if not isinstance(schema, dict):
            if schema is not False:
                yield _Whole(({},))
            return
        together: list[list[JsonValue]] = [[part] for part in _list(schema.get("allOf"))]
        if (name := _name(schema)) is not None:
            together.append([self._definitions.get(name, True) if self._finished.get(name, True) else False])
        if "anyOf" in schema:
            together.append(_list(schema["anyOf"]))
        for choice in itertools.product(*together):
            for inner in itertools.product(*(self._some(part) for part in choice)):
                whole = _Whole((schema, *itertools.chain(*(one.parts for one in inner))))
                self._steps += len(whole.parts)
                if self._steps > MAX_STEPS:
                    raise Unheld((), TOO_MUCH_WORK)
                yield whole

    def _some(self, schema: JsonValue) -> list[_Whole]:
        return list(itertools.islice(self._wholes(schema), MAX_CHOICES + 1))

    def place(self, schema: JsonObject) -> JsonValue:
        """The first part on the way of what must be there that comes again."""
        seen: set[int] = set()
        here: JsonValue = schema
        while isinstance(here, dict) and id(here) not in seen:
            seen.add(id(here))
            name = _name(here)
            here = self._definitions.get(name) if name is not None and len(here) == 1 else self.obstacle(here)
        return here

    def prune(self, schema: JsonValue) -> JsonValue:
        """The schema with False for each part that cannot be finished."""
        if isinstance(schema, list):
            return [self.prune(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        if not self.can_finish(schema):
            return False
        for keyword in ("properties", "patternProperties", "$defs"):
            if isinstance(parts := schema.get(keyword), dict):
                parts.update({name: self.prune(part) for name, part in parts.items()})
        for keyword in ("allOf", "anyOf", "prefixItems", "items", "additionalProperties"):
            if keyword in schema:
                schema[keyword] = self.prune(schema[keyword])
        return schema


def _name(schema: JsonObject) -> str | None:
    reference = schema.get("$ref")
    return reference.rpartition("/")[2] if isinstance(reference, str) else None


def _property(part: JsonObject, name: str) -> JsonValue:
    listed = part.get("properties")
    if isinstance(listed, dict) and name in listed:
        return listed[name]
    return True if part.get("patternProperties") else part.get("additionalProperties", True)


def _item(part: JsonObject, place: int) -> JsonValue:
    prefix = _list(part.get("prefixItems"))
    return prefix[place] if place < len(prefix) else part.get("items", True)


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
