"""JSON schemas as grammars, and what of a schema is not supported.

A schema is read as JSON Schema 2020-12, or as its `$schema` says, and rewritten by `serve.schema` before llguidance
makes a grammar of it. The grammar is stricter than the schema: properties come in the schema's order; between two parts
there is at most one space, or one line break with its indentation (otherwise a small model may write white space to
its limit); where an object may have other properties than those listed, a string has no `\\uXXXX`, which could spell a
listed name past its schema; and of what `not` allows, only what a grammar can spell comes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import orjson
from llguidance import LLMatcher

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.schema_document import Path, SchemaDocument
from tunesmith.serve.chat.schema_limits import FUEL, MAX_MULTIPLES, multiple, size_fault
from tunesmith.serve.chat.schema_words import in_words
from tunesmith.serve.schema.grounding import Grounding, check_descent
from tunesmith.serve.schema.plain import Rewriter
from tunesmith.serve.schema.regular.automaton import limited_steps
from tunesmith.serve.schema.view import Unheld
from tunesmith.system.deadline import check_time

MAX_SCHEMA_BYTES = 200_000  # 150 kB with 5,000 optional properties take 0.6 s to check and 1.7 s to compile
LOCATED_BYTES = 60_000  # checked to find the place of a fault; beyond, it is named without one
PATTERN_STEPS = 50_000  # of comparing patterns; they take about 0.5 s
CACHED_SCHEMAS = 64
WHITESPACE = r"[ \t]|\r?\n[ \t]{0,40}"
OPTIONS = "x-guidance"  # of llguidance, in a schema
PLAIN: JsonObject = {"whitespace_pattern": WHITESPACE}
ANY_ESCAPES: JsonObject = {
    **PLAIN,
    "json_allow_general_unicode_escapes": True,
}  # many a row was written with ASCII only
NAMES_PLAIN: JsonObject = {**PLAIN, "json_allowed_escapes": 'nrbtf\\"'}
NEWER = ("json_allow_general_unicode_escapes", "whitespace_pattern")
SEPARATED: JsonObject = {
    "whitespace_flexible": False,
    "item_separator": f",({WHITESPACE})?",
    "key_separator": f":({WHITESPACE})?",
}
ANY_OBJECT: JsonObject = {"type": "object"}
NO_ARGUMENTS: JsonObject = {"type": "object", "properties": {}, "additionalProperties": False}

_MAPS = ("properties", "patternProperties", "$defs")
_LISTS = ("anyOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\u00[01]")


@dataclass(frozen=True, slots=True)
class _Held:
    """A schema as llguidance gets it, or why it does not."""

    fault: str | None
    guided: bytes = b""


def json_rule(schema: JsonObject) -> str:
    """The right side of a rule in llguidance's Lark syntax.

    The schema must have no `schema_fault`.
    """
    return f"%json {_held(orjson.dumps(schema)).guided.decode()}"


def for_older_llguidance(grammar: str) -> str:
    r"""The grammar as llguidance 1.7 and later read alike.

    1.7 takes a `whitespace_pattern` any number of times, up to the end of an answer, and has no option for `\uXXXX`,
    which stands for control characters only. So white space comes after commas and colons alone.
    """
    for options in (ANY_ESCAPES, NAMES_PLAIN):
        older = {key: value for key, value in options.items() if key not in NEWER} | SEPARATED
        ours, theirs = (orjson.dumps({OPTIONS: one}).decode()[1:-1] for one in (options, older))
        grammar = grammar.replace(ours, theirs)
    return grammar


def arguments_schema(parameters: JsonObject | None) -> JsonObject:
    """A function's `parameters` as the schema of its arguments.

    They are an object whether the schema says so or not.
    """
    if parameters is None:
        return NO_ARGUMENTS
    return parameters if "type" in parameters or "$ref" in parameters else {"type": "object", **parameters}


def schema_fault(schema: JsonObject) -> str | None:
    """Why no answer can be held to `schema`, as the end of a sentence.

    None when one can. Raises OutOfTime within a time limit that has passed.
    """
    check_time()
    try:
        source = orjson.dumps(schema)
    except orjson.JSONEncodeError as error:
        if "surrogate" in str(error):
            return "it has half a surrogate pair"
        return "it has a number beyond 64 bits" if "64-bit" in str(error) else "it is nested too deeply"
    if len(source) > MAX_SCHEMA_BYTES:
        return f"it has {len(source)} bytes, the limit is {MAX_SCHEMA_BYTES}"
    return _held(source).fault


@lru_cache(maxsize=CACHED_SCHEMAS)
def _held(source: bytes) -> _Held:
    try:
        document = SchemaDocument(orjson.loads(source))
        check_descent(document)
        rewriter = Rewriter(document)
        with limited_steps(PATTERN_STEPS):
            plain = rewriter.whole()
        _ground(plain, rewriter.paths)
        _check_parts(plain, rewriter.paths)
        guided = _guided(plain)
        if _open_to_names(plain) and _CONTROL.search(orjson.dumps(plain)):
            return _Held("control characters are not supported where an object may have properties that are not listed")
        found = _compile_fault(guided)
    except Unheld as error:
        return _Held(_at(error.path, error.reason))
    except RecursionError:
        return _Held("it is nested too deeply")
    if found is None:
        return _Held(None, guided)
    return _Held(_at(_place(plain, found, rewriter.paths), in_words(found)))


def _check_parts(plain: JsonObject, paths: dict[int, Path]) -> None:
    """Raises Unheld for a part that llguidance does not hold to, or that costs too much."""
    multiples = 0
    for path, part in _subschemas(plain, paths):
        multiples += multiple(part)
        if multiples > MAX_MULTIPLES:
            raise Unheld(path, f"'multipleOf' has too many digits: all of a schema may come to {MAX_MULTIPLES}")
        if fault := _own_fault(part) or size_fault(part, plain):
            raise Unheld(path, fault)


def _ground(plain: JsonObject, paths: dict[int, Path]) -> None:
    """Raises Unheld where every answer would have to contain itself; takes away what only such a part could fill."""
    if "$defs" not in plain:
        return
    grounding = Grounding(plain)
    if not grounding.can_finish(plain):
        raise Unheld(paths.get(id(grounding.place(plain)), ()), "an answer would have to contain itself without an end")
    grounding.prune(plain)


def _at(path: Path, fault: str) -> str:
    return f"at {'.'.join(path)}, {fault}" if path else fault


def _compile_fault(guided: bytes) -> str | None:
    grammar: str = LLMatcher.grammar_from_json_schema(guided.decode())
    return LLMatcher.validate_grammar(grammar, limits=FUEL) or None


def _own_fault(part: JsonObject) -> str | None:
    """What llguidance would take and not hold to: names outside of `properties` may repeat, and count twice."""
    least, required = part.get("minProperties"), part.get("required")
    named = len(required) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(1, named + 1):
        return "'minProperties' above 1 is not supported beyond the properties that are 'required'"
    return _bounds_fault(part)


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
    return orjson.dumps({**schema, OPTIONS: NAMES_PLAIN if _open_to_names(schema) else ANY_ESCAPES})


def _open_to_names(schema: JsonObject) -> bool:
    return any(
        "patternProperties" in sub or (sub.get("properties") and sub.get("additionalProperties") is not False)
        for _, sub in _subschemas(schema)
    )


def _subschemas(schema: JsonObject, paths: dict[int, Path] | None = None) -> Iterator[tuple[Path, JsonObject]]:
    """All parts of a plain schema, with their places in the one that was sent."""
    pending = [schema]
    while pending:
        part = pending.pop()
        yield (paths or {}).get(id(part), ()), part
        pending += reversed(list(_children(part)))


def _children(schema: JsonObject) -> Iterator[JsonObject]:
    yield from (child for child in _child_values(schema) if isinstance(child, dict))


def _child_values(schema: JsonObject) -> Iterator[JsonValue]:
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            yield from value.values()
        elif keyword in _LISTS and isinstance(value, list):
            yield from value
        elif keyword in _SINGLE:
            yield value


def _place(plain: JsonObject, fault: str, paths: dict[int, Path]) -> Path:
    """Path of the innermost part that has the same fault by itself; () for the whole."""
    shared: JsonObject = {"$defs": plain["$defs"]} if "$defs" in plain else {}
    found: Path = ()
    left = LOCATED_BYTES
    part: JsonObject | None = plain
    while part is not None:
        children, part = _children(part), None
        for child in children:
            guided = _guided({**shared, **child})
            left -= len(guided)
            if left < 0:
                return ()
            if _compile_fault(guided) == fault:
                found, part = paths.get(id(child), found), child
                break
    return found
