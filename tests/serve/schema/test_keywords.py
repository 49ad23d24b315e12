"""What each keyword lets through, against the judgement of another implementation."""

from typing import Any

import jsonschema_rs
import orjson
import pytest
from llguidance import LLMatcher, LLTokenizer

from tunesmith.serve.chat.schema import json_rule, schema_fault

BYTES = LLTokenizer("byte")
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
KINDS = {"k": {"enum": ["a", "b"]}, "n": {"type": "integer"}}


def takes(schema: dict[str, Any], value: Any) -> bool:
    matcher = LLMatcher(BYTES, f"start: {json_rule(schema)}", log_level=0)
    text = orjson.dumps(value)
    return matcher.try_consume_tokens(list(text)) == len(text) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"not": {"type": ["object", "string"]}}, [1, True, None, [], {}, "x"]),
        ({"type": "string", "not": {"enum": ["ab", "b", ""]}}, ["", "a", "ab", "abc", "b", "bb", "c"]),
        ({"type": "integer", "not": {"enum": [2, 4]}}, [1, 2, 3, 4, 5, -4]),
        ({"type": "boolean", "not": {"const": True}}, [True, False]),
        ({"type": "string", "not": {"pattern": "^x|y$"}}, ["x", "ax", "ay", "yx", "ya", "", "z"]),
        ({"type": "string", "pattern": "^(?!ad)[a-z]{2,3}$"}, ["ad", "ade", "abc", "ba", "a", "abcd"]),
        ({"type": "string", "pattern": "(^$)|(^[A-Z]$)"}, ["", "A", "AA", "a"]),
        ({"type": "object", "not": {"required": ["a", "b"]}}, [{}, {"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {"c": 1}]),
        ({"not": {"anyOf": [{"type": "string"}, {"minimum": 3}]}}, ["x", 2, 3, 4, None]),
        ({"not": {"$ref": "#/$defs/x"}, "$defs": {"x": {"minItems": 1, "type": "array"}}}, [[], [1], 1]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, 2, 3, 1.5, "x"]),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object"}, [{}, {"a": 1}, {"a": 1, "b": 1}]),
        (
            {
                "if": {"properties": {"k": {"const": "a"}}},
                "then": {"required": ["n"]},
                "type": "object",
                "properties": KINDS,
            },
            [{}, {"n": 1}, {"k": "a"}, {"k": "a", "n": 1}, {"k": "b"}, {"k": "b", "n": 2}],
        ),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, [{}, {"a": 1}, {"b": 1}, {"a": 1, "b": 1}]),
        ({"type": "object", "dependentSchemas": {"a": {"maxProperties": 1}}}, [{"a": 1}, {"a": 1, "b": 2}, {"b": 2}]),
        ({"type": "array", "contains": {"const": 7}, "items": {"type": "integer"}}, [[], [7], [1, 7], [1, 2], [7, 7]]),
        ({"type": "array", "contains": {"const": 7}, "maxContains": 1, "maxItems": 3}, [[7], [7, 7], [1, 7, 1], [1]]),
        ({"type": "array", "uniqueItems": True, "items": {"enum": [1, 2, 3]}}, [[], [1], [2, 1], [1, 1], [3, 2, 1]]),
        ({"type": "array", "uniqueItems": True, "items": {"type": "string"}, "maxItems": 1}, [[], ["a"], ["a", "a"]]),
        ({"type": "object", "propertyNames": {"pattern": "^a"}, "properties": {"b": {}}}, [{}, {"ab": 1}, {"b": 1}]),
        ({"propertyNames": {"enum": ["x", "yy"]}, "type": "object"}, [{"x": 1}, {"yy": 1, "x": 2}, {"y": 1}]),
        (
            {"propertyNames": {"minLength": 2}, "patternProperties": {"^a": {"type": "null"}}},
            [{"a": None}, {"ab": 1}, {"bb": 1}],
        ),
        (
            {"patternProperties": {"^a": {"type": "integer"}, "z$": {"minimum": 5}}},
            [{"az": 4}, {"az": 5}, {"z": 4}, {"a": "x"}],
        ),
        (
            {"minProperties": 1, "properties": KINDS, "type": "object"},
            [{}, {"k": "a"}, {"n": 1}, {"k": "a", "n": 1}, {"x": 1}],
        ),
        (
            {"maxProperties": 1, "properties": KINDS, "type": "object"},
            [{}, {"k": "a"}, {"n": 1}, {"k": "a", "n": 1}, {"x": 1}],
        ),
        (
            {"minProperties": 2, "properties": KINDS, "required": ["k"]},
            [{"k": "a"}, {"k": "a", "n": 1}, {"k": "a", "x": 1}],
        ),
        (
            {"unevaluatedProperties": False, "$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": {}}}}},
            [{"a": 1}, {"b": 1}],
        ),
        ({"$ref": "#here", "$defs": {"x": {"$anchor": "here", "type": "integer"}}}, [1, "x"]),
        ({"$dynamicRef": "#here", "$defs": {"x": {"$dynamicAnchor": "here", "type": "integer"}}}, [1, "x"]),
        ({"$id": "https://e.org/a/b", "$ref": "c", "$defs": {"x": {"$id": "c", "type": "null"}}}, [None, 1]),
        (
            {
                "$schema": DRAFT_7,
                "$ref": "#/definitions/x",
                "required": ["a"],
                "definitions": {"x": {"type": "object"}},
            },
            [{}],
        ),
        (
            {"$schema": DRAFT_7, "type": "object", "dependencies": {"a": ["b"], "c": {"maxProperties": 1}}},
            [{"a": 1}, {"c": 1}],
        ),
        ({"$schema": DRAFT_4, "minimum": 3, "exclusiveMinimum": True, "type": "integer"}, [3, 4]),
        ({"$schema": DRAFT_4, "not": {"items": {"not": {"const": 1, "enum": [1]}}}}, [[1], [2, 1], [2], [], "x"]),
    ],
)
def test_an_answer_is_let_through_where_it_is_valid(schema: dict[str, Any], values: list[Any]) -> None:
    assert schema_fault(schema) is None
    judge = jsonschema_rs.validator_for(schema)
    assert {str(value): takes(schema, value) for value in values} == {str(v): judge.is_valid(v) for v in values}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "contains": {"const": 7}}, [0, 0, 0, 0, 7]),
        ({"type": "number", "not": {"type": "integer"}}, 1.5),
        ({"type": "array", "items": {"enum": [1, 2, 3, 4, 5, 6]}, "uniqueItems": True}, [2, 1]),
    ],
)
def test_what_is_valid_and_never_comes(schema: dict[str, Any], value: Any) -> None:
    """Limits that docs/serving.md names."""
    assert jsonschema_rs.is_valid(schema, value)
    assert schema_fault(schema) is not None or not takes(schema, value)
