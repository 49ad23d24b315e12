"""The steps that a schema makes, and what is done about too many."""

import json
import math
import time
from typing import Any

from tunesmith.rows.schema_cost import nesting, schema_steps
from tunesmith.rows.schema_document import SchemaDocument
from tunesmith.rows.tool_faults import declared, declared_call_faults


def doubling(levels: int) -> dict[str, Any]:
    parts: dict[str, Any] = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(levels)
    }
    parts[f"d{levels}"] = {"type": "integer"}
    return {"type": "object", "$defs": parts, "properties": {"a": {"$ref": "#/$defs/d0"}}}


def faults(parameters: dict[str, Any], arguments: Any) -> list[str]:
    tool: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    tools = declared({"tools": [tool]})
    call: dict[str, Any] = {
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": json.dumps(arguments)},
    }
    found = declared_call_faults(tools, [{"role": "assistant", "tool_calls": [call]}], "messages")
    return [fault.message for fault in (*tools.faults, *found)]


def test_steps_double_with_each_level() -> None:
    few, more = (schema_steps(SchemaDocument(doubling(levels)), 1) for levels in (10, 11))
    assert 2**10 < few < 2**13
    assert 1.9 < more / few < 2.1


def test_a_tree_takes_one_step_a_level() -> None:
    tree: dict[str, Any] = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    assert schema_steps(SchemaDocument(tree), 40) < 200


def test_a_reference_to_itself_never_ends() -> None:
    assert schema_steps(SchemaDocument({"anyOf": [{"$ref": "#"}]}), 0) == math.inf


def test_nesting_counts_levels() -> None:
    assert [nesting(1), nesting({}), nesting({"a": 1}), nesting({"a": [{"b": 2}]})] == [0, 0, 1, 3]


def test_arguments_that_take_too_many_steps_are_not_checked() -> None:
    started = time.perf_counter()
    assert "takes more than 4,000,000 steps" in faults(doubling(26), {"a": "x"})[0]
    assert faults(doubling(16), {"a": "x"}) == ["The arguments do not fit the schema."]
    assert "argument a does not fit" in faults(doubling(5), {"a": "x"})[0]
    assert faults(doubling(16), {"a": 1}) == []
    assert time.perf_counter() - started < 5


def test_a_schema_that_is_too_much_at_once_is_a_fault_of_the_declaration() -> None:
    parameters = {**doubling(26), "properties": {}, "$ref": "#/$defs/d0"}
    assert "come to more than 4,000,000 steps" in faults(parameters, {})[0]


def test_what_is_unevaluated_is_counted_before_it_is_compiled() -> None:
    parts: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2, "unevaluatedProperties": False} for n in range(22)
    }
    schema: dict[str, Any] = {"$defs": {**parts, "d22": {"properties": {"a": {}}}}, "$ref": "#/$defs/d0"}
    started = time.process_time()
    assert "more than 4,000,000 steps" in faults(schema, {"b": 1})[0]
    assert time.process_time() - started < 1  # minutes, and all memory, where it is compiled first


def test_names_that_are_missing_are_steps() -> None:
    names = [f"r{n}" for n in range(5_000)]
    for schema in ({"required": names}, {"dependentRequired": {"a": names}}):
        assert faults(schema, {"a": 1}) == ["The arguments do not fit the schema."]
    assert '"r0" is a required property' in faults({"required": names[:50]}, {"a": 1})[0]


def test_errors_of_long_arguments_are_not_worded() -> None:
    long = {"a": "x" * 300_000}
    assert faults({"required": [f"r{n}" for n in range(100)]}, long) == ["The arguments do not fit the schema."]
    assert '"r0" is a required property' in faults({"required": ["r0"]}, long)[0]
