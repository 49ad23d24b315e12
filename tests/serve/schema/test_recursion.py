"""A schema that contains itself has a way out, or is refused at its place."""

import time
from typing import Any

import pytest
from tests.serve.schema.test_keywords import takes

from tunesmith.serve.chat.schema import schema_fault

ITSELF = "a '$ref' leads back to itself"
ENDLESS = "an answer would have to contain itself without an end"


def holding(reference: str, **keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"$ref": reference}}, "required": ["a"], **keywords}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#"}, ITSELF),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, f"at properties.a, {ITSELF}"),
        (
            {"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"$ref": "#/$defs/x"}}},
            f"at $defs.x, {ITSELF}",
        ),
        ({"anyOf": [{"type": "integer"}, {"$ref": "#"}]}, f"at anyOf[1], {ITSELF}"),
        ({"allOf": [{"$ref": "#"}]}, f"at allOf[0], {ITSELF}"),
        ({"not": {"$ref": "#"}}, f"at not, {ITSELF}"),
        (holding("#"), ENDLESS),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, ENDLESS),
        ({"anyOf": [holding("#"), {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]}, ENDLESS),
        ({"allOf": [{"type": "object", "properties": {"a": {"$ref": "#"}}}, {"required": ["a"]}]}, ENDLESS),
        (
            holding("#/$defs/x", **{"$defs": {"x": holding("#/$defs/y"), "y": holding("#/$defs/x")}}),
            f"at $defs.x, {ENDLESS}",
        ),
    ],
)
def test_recursion_without_an_end_is_refused(schema: dict[str, Any], words: str) -> None:
    assert (schema_fault(schema) or "").startswith(words)


def test_a_tree_with_optional_children_works() -> None:
    tree: dict[str, Any] = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    }
    tree |= {"required": ["n"], "additionalProperties": False}
    assert schema_fault(tree) is None
    assert takes(tree, {"n": 1, "children": [{"n": 2}, {"n": 3, "children": []}]})
    assert not takes(tree, {"n": 1, "children": [{"children": []}]})


def test_recursion_through_one_branch_of_a_choice_works() -> None:
    """The list that must not be empty has another kind of item."""
    parent: dict[str, Any] = {
        "type": "object",
        "properties": {"c": {"items": {"anyOf": [{"$ref": "#/$defs/p"}, {"type": "null"}]}}},
    }
    parent["properties"]["c"] |= {"type": "array", "minItems": 1}
    schema: dict[str, Any] = {"$ref": "#/$defs/p", "$defs": {"p": {**parent, "required": ["c"]}}}
    assert schema_fault(schema) is None
    assert takes(schema, {"c": [{"c": [None]}, None]})
    assert not takes(schema, {"c": [{"c": []}]})


def test_a_part_that_cannot_end_is_left_out() -> None:
    endless = holding("#/$defs/x")
    schema: dict[str, Any] = {"type": "object", "properties": {"b": {"$ref": "#/$defs/x"}}, "$defs": {"x": endless}}
    assert schema_fault(schema) is None
    assert takes(schema, {})
    assert not takes(schema, {"b": {"a": {}}})


def test_doubling_references_are_checked_at_once() -> None:
    parts: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"} for _ in range(2)]} for n in range(26)}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/d0"}},
        "$defs": {**parts, "d26": {"type": "null"}},
    }
    started = time.perf_counter()
    assert schema_fault(schema) is None
    assert [takes(schema, {"a": value}) for value in (None, 1)] == [True, False]
    assert time.perf_counter() - started < 5
