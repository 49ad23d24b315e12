"""What no answer can be held to is said, with its keyword and its place."""

from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.chat.schema import (
    MAX_SCHEMA_BYTES,
    arguments_schema,
    for_older_llguidance,
    json_rule,
    schema_fault,
)

DEEP: dict[str, Any] = {}
for _ in range(300):
    DEEP = {"properties": {"a": DEEP}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"not": {}}, "no answer can fit it"),
        ({"not": {"multipleOf": 2}}, "at not, what is not of this 'multipleOf' cannot be spelled"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        (
            {"type": "string", "pattern": "(?<=a)b"},
            "this 'pattern' is not supported: it has a look-ahead or look-behind that",
        ),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "no answer can fit it: the types that it asks"),
        ({"$ref": "https://example.org/x"}, "the '$ref' 'https://example.org/x' does not point into this schema"),
        ({"type": "object", "minProperties": 2, "additionalProperties": {}}, "'minProperties' above 1"),
        ({"type": "frob"}, "'type' is 'frob': JSON has string, number, integer, boolean, object, array and null"),
        ({"type": "object", "properties": []}, "'properties' must be an object"),
        ({"minimum": 5, "maximum": 3, "type": "integer"}, "minimum"),
        ({"properties": {"a": {"const": "\u0001"}}}, "control characters"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "'exclusiveMinimum' 0 is not supported where"),
        ({"type": "number", "minimum": -1.5, "exclusiveMaximum": -1}, "'exclusiveMaximum' -1 is not supported"),
        (DEEP, "nested too deeply"),
        ({"enum": ["x" * MAX_SCHEMA_BYTES]}, "the limit is 200000"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "no answer can fit it"),
        (
            {"oneOf": [{"type": "string", "pattern": f"a{n}"} for n in range(40)]},
            "too many branches of 'oneOf' may fit",
        ),
        ({"oneOf": [{"const": n} for n in range(301)]}, "'oneOf' has 301 branches, the limit is 300"),
        ({"enum": [2**70]}, "a number beyond 64 bits"),
        ({"properties": {f"p{n}": {} for n in range(3_001)}}, "it lists 3001 properties, the limit is 3000"),
        (
            {"type": "object", "properties": {"a": {"items": {"unevaluatedProperties": False, "anyOf": [True]}}}},
            "at properties.a.items, 'unevaluatedProperties'",
        ),
        (
            {"anyOf": [{"type": "null"}, {"type": "array", "uniqueItems": True}]},
            "at anyOf[1], 'uniqueItems' is supported only for items with a short 'enum'",
        ),
        ({"properties": {"a": {"minProperties": 3}}}, "at properties.a, 'minProperties'"),
    ],
)
def test_a_fault_names_the_keyword_and_the_place(schema: dict[str, Any], words: str) -> None:
    assert words in (schema_fault(schema) or "")


PATTERNS = {  # which no answer can be held to -> why
    "^(?=a)b": "no answer can fit it: 'a' is required and can have no value",
    "^(?<=a)b": "it has a look-ahead or look-behind that cannot be written out; say which texts may come",
    r"(a)\1": r"it has a reference to a group (\1); write out which texts may come",
    r"\bfoo\b": r"it has a word boundary (\b, \B), or a ^ or $ in its middle; write what may stand there",
    "[a-": r"it has a '[' that is not closed; a [ itself is written \[",
    "(a": r"it has a '(' that is not closed; a ( itself is written \(",
    "a)": r"it has a ')' that closes nothing; a ) itself is written \)",
    "*a": "it has a '*', '+', '?' or '{' with nothing to repeat before it; put a \\ before it",
    "a{3,1}": "it has a {m,n} whose first number is above its second",
    "[z-a]": "it has a range in [] whose first character comes after its last",
    "(?>a)": "it has a '(?' that begins nothing known here; a group is written (?:…)",
    r"\Qa": "it has a \\ before a character for which it has no meaning here",
    r"\p{Foo}": r"it has a \p{…} with a name that Unicode does not have",
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_refused_in_our_words(pattern: str) -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": pattern}},
        "required": ["a"],
    }
    words = PATTERNS[pattern]
    whole = f"at properties.a, this 'pattern' is not supported: {words}" if words.startswith("it has") else words
    assert schema_fault(schema) == whole


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": 1}, "'type' must be a text or a list of texts"),
        ({"type": "object", "required": [1]}, "'required' must be a list of texts"),
        ({"type": "string", "pattern": 1}, "'pattern' must be a text"),
        ({"type": "integer", "multipleOf": 0}, "'multipleOf' must be above 0"),
        ({"enum": []}, "no answer can fit it"),
        (
            {"type": "string", "format": "uuid", "maxLength": 5},
            "no text fits its 'pattern', 'format' and lengths together",
        ),
        ({"type": "number", "maximum": 1e300}, "the numbers of its 'minimum' and 'maximum' have too many digits"),
    ],
)
def test_a_keyword_is_refused_in_our_words(schema: dict[str, Any], words: str) -> None:
    assert schema_fault(schema) == words


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "title": "T", "description": "d", "properties": {"not": {"type": "string", "default": ""}}},
        {"type": "string", "format": "ipv9"},
        {"$schema": "http://json-schema.org/draft-04/schema#", "propertyNames": {}},
        {"type": "object", "required": ["a", "b"], "minProperties": 2, "properties": {"a": {}, "b": {}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "$defs": {"x": {"not": {}}}, "type": "object"},
        {"const": "\u0001"},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "exclusiveMinimum": 0.1, "maximum": 0.5},
    ],
)
def test_what_can_be_held_to_has_no_fault(schema: dict[str, Any]) -> None:
    assert schema_fault(schema) is None


def test_options_of_the_library_are_ours() -> None:
    assert '"lenient"' not in json_rule({"x-guidance": {"lenient": True}})


def test_escapes_are_free_only_where_no_name_can_be_forged() -> None:
    closed: JsonObject = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}
    assert "json_allowed_escapes" not in json_rule(closed)
    assert "json_allowed_escapes" in json_rule({"type": "array", "items": {**closed, "additionalProperties": True}})


def test_arguments_are_an_object() -> None:
    assert arguments_schema(None) == {"type": "object", "properties": {}, "additionalProperties": False}
    assert arguments_schema({"properties": {}}) == {"type": "object", "properties": {}}


@pytest.mark.parametrize("additional", [True, False])
@pytest.mark.parametrize(
    ("text", "held"),
    [
        ('{"a":[1,2]}', True),
        ('{"a": [1, 2]}', True),
        ('{"a":\n  [1,\n\t2]}', True),
        ('{ "a": [1]}', False),
        ('{"a": [1] }', False),
        ('{"a":  [1]}', False),
        ('{"a" :[1]}', False),
    ],
)
def test_grammar_for_older_llguidance_has_white_space_after_commas_and_colons_alone(
    text: str, held: bool, additional: bool
) -> None:
    """There it may stand any number of times where a pattern allows it, and fill an answer up to its end."""
    schema: JsonObject = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "integer"}}},
        "additionalProperties": additional,
    }
    matcher = LLMatcher(LLTokenizer("byte"), for_older_llguidance(f"start: answer\nanswer: {json_rule(schema)}\n"))
    assert (matcher.consume_tokens(list(text.encode())) and matcher.is_accepting()) == held
