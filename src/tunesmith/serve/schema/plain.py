"""Any JSON schema -> one of the keywords that llguidance holds to.

`not`, `oneOf`, `if` and their like become choices between plain schemas, of which at least one must fit. An answer
that fits the result fits the schema. Each part that is referred to is rewritten once, so the result grows with the
schema and not with the paths through it.
"""

import re
from collections.abc import Callable

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.schema_document import REFERENCES, Path, SchemaDocument
from tunesmith.serve.schema.arrays import NotSpelled, containing, distinct
from tunesmith.serve.schema.branches import Overlap, conditional, dependent, one_of, or_another_type
from tunesmith.serve.schema.evaluated import evaluated
from tunesmith.serve.schema.facts import Facts
from tunesmith.serve.schema.names import name_term
from tunesmith.serve.schema.negation import alternatives
from tunesmith.serve.schema.objects import TooMany, counted, disjoint_patterns, named
from tunesmith.serve.schema.regular.automaton import spelled
from tunesmith.serve.schema.regular.reader import search
from tunesmith.serve.schema.regular.terms import Unreadable
from tunesmith.serve.schema.view import Unheld, viewed

MAX_PARTS = 20_000  # of the rewritten schema
MAX_BRANCHES = 300  # of a `oneOf`: each is compared with each
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
_LOOKS = re.compile(r"\(\?[=!]|(?<!\\)\$(?!$)|(?<=[^\[\\])\^")  # a look-ahead, or an anchor in the middle
_REWRITTEN = {
    *("not", "oneOf", "if", "then", "else", "dependentRequired", "dependentSchemas", "contains", "minContains"),
    *("maxContains", "uniqueItems", "propertyNames", "unevaluatedProperties", "unevaluatedItems", *REFERENCES),
}
_COUNTS = ("minProperties", "maxProperties")


class _Ready(dict[str, JsonValue]):
    """A part that is plain already."""


class Rewriter:
    """Rewrites one document; `paths` tells where each part of the result is from."""

    def __init__(self, document: SchemaDocument) -> None:
        self.paths: dict[int, Path] = {}
        self._document = document
        self._facts = Facts(document)
        self._names: dict[tuple[int, bool], str] = {}
        self._pending: list[tuple[str, JsonObject, bool]] = []
        self._parts = 0

    def whole(self) -> JsonObject:
        """The plain schema, with `$defs` for what is referred to. Raises Unheld."""
        root = self._object(self._positive(self._document.root))
        definitions: JsonObject = {}
        while self._pending:
            name, node, fits = self._pending.pop()
            definitions[name] = self._positive(node if fits else self._adopted({"not": node}, node))
        self.paths[id(root)] = ()
        if definitions:
            root["$defs"] = definitions
        return root

    def _object(self, schema: JsonValue) -> JsonObject:
        if schema is False:
            raise Unheld((), "no answer can fit it")
        return schema if isinstance(schema, dict) else {}

    def _adopted(self, node: JsonObject, like: JsonObject) -> JsonObject:
        return self._document.adopt(node, like)

    def _positive(self, node: JsonValue) -> JsonValue:
        """A plain schema that fits only what `node` fits."""
        if isinstance(node, bool | _Ready):
            return node
        if not isinstance(node, dict):
            raise Unheld((), f"a schema must be an object, not {str(node)[:80]!r}")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Unheld(
                self._document.path(node),
                f"it comes to more than {MAX_PARTS} parts without its 'not', 'oneOf' and 'if'",
            )
        view, made = self._reshaped(node)
        made += self._extras(node, view)
        extras = [self._positive(self._adopted(extra, node)) for extra in made]
        plain: JsonObject = {}
        for keyword, value in view.items():
            if keyword in REFERENCES:
                extras.insert(0, self._reference(node, keyword))
            elif keyword not in _REWRITTEN:
                self._keep(plain, keyword, value, node)
        self._hold(plain, extras)
        self.paths[id(plain)] = self._document.path(node)
        return plain if plain.get("allOf") != [False] else False

    def _keep(self, plain: JsonObject, keyword: str, value: JsonValue, node: JsonObject) -> None:
        child = self._child(node)
        if keyword in ("properties", "patternProperties") and isinstance(value, dict):
            plain[keyword] = {name: child(schema) for name, schema in value.items()}
        elif keyword in ("anyOf", "allOf", "prefixItems") and isinstance(value, list):
            plain[keyword] = [child(schema) for schema in value]
        elif keyword in ("items", "additionalProperties"):
            plain[keyword] = child(value)
        elif keyword == "pattern":
            plain[keyword] = self._pattern(value)
        elif keyword != "format" or value in _FORMATS:
            plain[keyword] = (
                int(value)
                if isinstance(value, float) and keyword.endswith(("Length", "Items", "Properties"))
                else value
            )

    def _child(self, node: JsonObject) -> Callable[[JsonValue], JsonValue]:
        """Rewrites a part of `node`, which stands in the place of `node` if it was made up here."""

        def rewritten(schema: JsonValue) -> JsonValue:
            if isinstance(schema, dict) and not self._document.knows(schema):
                self._adopted(schema, node)
            return self._positive(schema)

        return rewritten

    def _hold(self, plain: JsonObject, extras: list[JsonValue]) -> None:
        """Adds `extras` to what must fit, a lone reference as itself."""
        extras = [extra for extra in extras if extra is not True and extra != {}]
        if len(extras) == 1 and not plain and isinstance(extras[0], dict):
            plain.update(extras[0])
        elif extras:
            known = plain.get("allOf")
            plain["allOf"] = [False] if False in extras else [*(known if isinstance(known, list) else []), *extras]

    def _reference(self, node: JsonObject, keyword: str) -> JsonValue:
        try:
            target = self._document.resolve(node, keyword)
        except LookupError as error:
            raise Unheld(self._document.path(node), str(error)) from None
        return self._defined(target, True)

    def _defined(self, target: JsonValue, fits: bool) -> JsonValue:
        """A reference to the rewritten target, or to its complement."""
        if not isinstance(target, dict):
            return bool(target) is fits
        key = (id(target), fits)
        if key not in self._names:
            self._names[key] = str(len(self._names))
            self._pending.append((self._names[key], target, fits))
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def _reshaped(self, node: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
        """The view without what says which and how many properties there are, and what must fit instead."""
        view = evaluated(self._document, node, viewed(self._document, node))
        types = self._facts.types(node)
        if "object" not in types:
            return view, []
        try:
            if "propertyNames" in view:
                view = named(view, name_term(self._document, view["propertyNames"]))
            view = disjoint_patterns(view)
            options = counted(view, self._facts.names(node)) if view.keys() & set(_COUNTS) else None
        except (TooMany, Unreadable) as error:
            raise Unheld(self._document.path(node), _reason(error)) from None
        if options is None:
            return view, []
        made = [or_another_type("object", options, types)] if options != [{}] else []
        return {key: value for key, value in view.items() if key not in _COUNTS}, made

    def _extras(self, node: JsonObject, view: JsonObject) -> list[JsonObject]:
        """What else must fit, instead of the keywords that are left out."""
        types = self._facts.types(node)
        found = list(dependent(view))
        if "if" in view:
            found.append(conditional(view))
        if isinstance(branches := view.get("oneOf"), list):
            found.append(self._one_of(node, branches, types))
        if "not" in view:
            found.append(self._complement(node, view["not"]))
        if "array" in types:
            found += [or_another_type("array", options, types) for options in self._arrays(node, view)]
        return found

    def _one_of(self, node: JsonObject, branches: list[JsonValue], types: frozenset[str]) -> JsonObject:
        if len(branches) > MAX_BRANCHES:
            reason = f"'oneOf' has {len(branches)} branches, the limit is {MAX_BRANCHES}; use 'anyOf'"
            raise Unheld(self._document.path(node), reason)
        try:
            return one_of(branches, self._facts, types)
        except Overlap as error:
            raise Unheld(self._document.path(node), str(error)) from None

    def _arrays(self, node: JsonObject, view: JsonObject) -> list[list[JsonObject]]:
        try:
            found = [containing(view)] if "contains" in view else []
            found += [distinct(view, self._facts)] if view.get("uniqueItems") is True else []
        except NotSpelled as error:
            raise Unheld(self._document.path(node), str(error)) from None
        return [options for options in found if options != [{}]]

    def _complement(self, node: JsonObject, schema: JsonValue) -> JsonObject:
        if isinstance(schema, bool):
            return {"allOf": [not schema]}
        if not isinstance(schema, dict):
            raise Unheld(self._document.path(node), "'not' must be a schema")
        if not self._document.knows(schema):
            self._adopted(schema, node)
        view = viewed(self._document, schema, strict=True)
        options = list[JsonValue](alternatives(view))
        for keyword in REFERENCES:
            if keyword in view:
                options.append(self._complement_of_reference(schema, keyword))
        if not options and view.keys() - {"format"}:
            raise Unheld(self._document.path(schema), f"what is not of this '{next(iter(view))}' cannot be spelled")
        return {"anyOf": options} if options else {"allOf": [False]}

    def _complement_of_reference(self, node: JsonObject, keyword: str) -> JsonValue:
        try:
            found = self._defined(self._document.resolve(node, keyword), False)
        except LookupError as error:
            raise Unheld(self._document.path(node), str(error)) from None
        return _Ready(found) if isinstance(found, dict) else found

    def _pattern(self, pattern: JsonValue) -> JsonValue:
        """Look-aheads are spelled out; llguidance has none."""
        if not isinstance(pattern, str) or not _LOOKS.search(pattern):
            return pattern
        try:
            return spelled(search(pattern)) or "[^\\s\\S]"
        except Unreadable:
            return pattern


def _reason(error: TooMany | Unreadable) -> str:
    return str(error) if isinstance(error, TooMany) else f"'propertyNames' is not supported with {error}"
