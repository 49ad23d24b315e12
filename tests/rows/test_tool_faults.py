"""Faults of declared tools, of calls, and of the messages that answer them."""

import json
import time
from typing import Any

import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.tool_faults import (
    CACHED_BYTES,
    LARGE_CACHED_BYTES,
    are_sound_calls,
    call_faults,
    declared,
    declared_call_faults,
    tool_message_faults,
)
from tunesmith.wire.limits import MAX_TOOLS

PARAMETERS: JsonObject = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": {"type": "string"}}},
    "required": ["a"],
    "additionalProperties": False,
}
ADD: JsonObject = {"type": "function", "function": {"name": "add", "parameters": PARAMETERS}}


def call(arguments: object = '{"a": 1}', name: object = "add", call_id: object = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def declared_codes(**row: Any) -> list[tuple[str, str]]:
    return [(fault.code, fault.path) for fault in declared(row).faults]


def called(*calls: object, tools: object = (ADD,)) -> list[tuple[str, str]]:
    messages: Any = [{"role": "assistant", "tool_calls": list(calls)}]
    faults = declared_call_faults(declared({"tools": list(tools)}), messages, "messages")  # type: ignore[call-overload]
    return [(fault.code, fault.path) for fault in faults]


def test_good_declarations_have_no_fault_and_a_schema_each() -> None:
    found = declared({"tools": [ADD], "functions": [{"name": "old"}]})
    assert found.faults == ()
    assert set(found.schemas) == {"add", "old"}
    assert found.schemas["old"] is None
    assert declared({"messages": []}).schemas == {}


@pytest.mark.parametrize(
    ("tools", "faults"),
    [
        ("add", [("invalid_tool", "tools")]),
        ([1], [("invalid_tool", "tools[0].function")]),
        ([{"type": "function"}], [("invalid_tool", "tools[0].function")]),
        ([{"type": "retrieval", "function": {"name": "x"}}], [("invalid_tool", "tools[0].function")]),
        ([{"type": "function", "function": {}}], [("invalid_tool", "tools[0].function.name")]),
        ([{"type": "function", "function": {"name": 1}}], [("invalid_tool", "tools[0].function.name")]),
        ([ADD, ADD], [("duplicate_tool", "tools[1].function.name")]),
    ],
)
def test_malformed_tools(tools: object, faults: list[tuple[str, str]]) -> None:
    assert declared_codes(tools=tools) == faults


@pytest.mark.parametrize(
    "parameters",
    [
        "object",
        [],
        {"type": "objekt"},
        {"type": 1},
        {"properties": {"a": {"minimum": "zero"}}},
        {"$ref": "http://127.0.0.1:9/schema.json"},
    ],
)
def test_parameters_that_are_not_a_schema(parameters: object) -> None:
    assert declared_codes(functions=[{"name": "f", "parameters": parameters}]) == [
        ("invalid_tool_schema", "functions[0].parameters")
    ]


def test_no_other_document_is_fetched_for_a_schema() -> None:
    (fault,) = declared({"functions": [{"name": "f", "parameters": {"$ref": "http://127.0.0.1:9/x.json"}}]}).faults
    assert "references to other documents are not followed" in fault.message


def test_the_number_of_tools_is_limited() -> None:
    tools = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(MAX_TOOLS + 1)]
    assert declared_codes(tools=tools[:-1]) == []
    assert declared_codes(tools=tools) == [("invalid_tool", "tools")]


def test_equal_declarations_are_compiled_once_and_the_largest_are_not_kept() -> None:
    row: Any = {"tools": [ADD]}
    assert declared(row) is declared(json.loads(json.dumps(row)))
    large: Any = {"functions": [{"name": "f", "description": "x" * CACHED_BYTES}]}
    assert declared(large) is declared(json.loads(json.dumps(large)))
    kept = declared(large)
    largest: Any = {"functions": [{"name": "f", "description": "x" * LARGE_CACHED_BYTES}]}
    assert declared(largest) is not declared(largest)
    assert declared(large) is not kept  # pushed out


def pattern_tool(pattern: str) -> Any:
    properties = {"a": {"type": "string", "pattern": pattern}}
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": properties}}}


def test_a_pattern_with_too_many_states_is_refused() -> None:
    (fault,) = declared({"tools": [pattern_tool("(a{0,200}){0,200}{0,50}")]}).faults
    assert fault.code == "invalid_tool_schema"
    assert "come to 2,000,000 states, and 50,000 is the most" in fault.message
    assert declared({"tools": [pattern_tool("^.{0,10000}$")]}).faults == ()


def test_arguments_that_a_pattern_would_take_too_long_for_are_not_matched() -> None:
    tools = declared({"tools": [pattern_tool("^(a{0,200}){0,200}$")]})
    assert tools.faults == ()
    long, short = (json.dumps({"a": "a" * count + "c"}) for count in (2_000, 20))
    messages: Any = [{"role": "assistant", "tool_calls": [call(long, name="f"), call(short, name="f")]}]
    begun = time.thread_time()
    first, second = declared_call_faults(tools, messages, "messages")
    assert time.thread_time() - begun < 1
    assert "repeats within repeats" in first.message
    assert "does not fit the schema" in second.message


@pytest.mark.parametrize(
    ("one", "faults"),
    [
        (call(), []),
        (call('{"a": 1, "b": ["x"]}'), []),
        (call("{}"), [("arguments_do_not_fit", "messages[0].tool_calls[0].function.arguments")]),
        (call('{"a": "1"}'), [("arguments_do_not_fit", "messages[0].tool_calls[0].function.arguments")]),
        (call('{"a": 1, "c": 2}'), [("arguments_do_not_fit", "messages[0].tool_calls[0].function.arguments")]),
        (call(name="sub"), [("undeclared_tool", "messages[0].tool_calls[0].function.name")]),
        (call("[1]"), []),  # told as arguments_not_json, with the message
    ],
)
def test_calls_against_their_declarations(one: object, faults: list[tuple[str, str]]) -> None:
    assert called(one) == faults


def test_a_call_that_does_not_fit_names_the_argument() -> None:
    messages: Any = [{"role": "assistant", "tool_calls": [call('{"a": 1, "b": ["x", 2]}')]}]
    (fault,) = declared_call_faults(declared({"tools": [ADD]}), messages, "messages")
    assert fault.message.startswith("The argument b[1] does not fit the schema: ")


def test_calls_without_any_declaration_are_told_once() -> None:
    assert called(call(), call(name="sub"), tools=()) == [("no_tools_declared", "messages")]


def test_old_function_calls_are_compared_too() -> None:
    messages: Any = [{"role": "assistant", "function_call": {"name": "add", "arguments": "{}"}}]
    (fault,) = declared_call_faults(declared({"tools": [ADD]}), messages, "messages")
    assert fault.path == "messages[0].function_call.arguments"


@pytest.mark.parametrize(
    ("calls", "faults"),
    [
        ([call()], []),
        (None, []),
        ([], []),
        ("f", [("invalid_tool_call", "m.tool_calls")]),
        (["f"], [("invalid_tool_call", "m.tool_calls[0]")]),
        ([{**call(), "type": "code"}], [("invalid_tool_call", "m.tool_calls[0].type")]),
        ([call(call_id="")], [("invalid_tool_call", "m.tool_calls[0].id")]),
        ([call(call_id=7)], [("invalid_tool_call", "m.tool_calls[0].id")]),
        ([{"id": "c", "type": "function"}], [("invalid_tool_call", "m.tool_calls[0].function")]),
        ([call(name="")], [("invalid_tool_call", "m.tool_calls[0].function.name")]),
        ([call({"a": 1})], [("arguments_not_text", "m.tool_calls[0].function.arguments")]),
        ([call(None)], [("invalid_tool_call", "m.tool_calls[0].function.arguments")]),
        ([call("add 1")], [("arguments_not_json", "m.tool_calls[0].function.arguments")]),
        ([call("[1]")], [("arguments_not_json", "m.tool_calls[0].function.arguments")]),
        ([call("\ud800")], [("arguments_not_json", "m.tool_calls[0].function.arguments")]),
    ],
)
def test_the_form_of_calls(calls: Any, faults: list[tuple[str, str]]) -> None:
    assert [(fault.code, fault.path) for fault in call_faults({"tool_calls": calls}, "m")] == faults
    if calls:
        assert are_sound_calls(calls) == (not faults)


@pytest.mark.parametrize("arguments", ['{"city":', "", "[1]", "null", "not json", "{}}", '"Paris"'])
def test_a_chat_may_hold_any_arguments_that_a_row_may_not(arguments: str) -> None:
    message: JsonObject = {"tool_calls": [call(arguments)], "function_call": {"name": "f", "arguments": arguments}}
    assert [fault.code for fault in call_faults(message, "m")] == ["arguments_not_json"] * 2
    assert list(call_faults(message, "m", training=False)) == []


def test_a_call_without_a_type_is_accepted_but_looked_at() -> None:
    one = call()
    del one["type"]
    assert list(call_faults({"tool_calls": [one]}, "m")) == []
    assert not are_sound_calls([one])


def test_tool_messages_answer_the_calls_before_them() -> None:
    asked: Any = {"role": "assistant", "tool_calls": [call(call_id="c1"), call(call_id="c2")]}
    user, said = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}

    def answer(call_id: str) -> JsonObject:
        return {"role": "tool", "tool_call_id": call_id, "content": "1"}

    def faults(*messages: Any) -> list[tuple[str, str]]:
        return [(fault.code, fault.path) for fault in tool_message_faults(list(messages), "m")]

    assert faults(user, asked, answer("c1"), answer("c2"), said) == []
    assert faults(user, asked, answer("c2"), answer("c1"), said) == []
    assert faults(user, asked) == []  # a row may end with calls: they are what is learned
    assert faults(user, asked, answer("c1"), said) == [("unanswered_call", "m[1].tool_calls")]
    assert faults(user, asked, user) == [("unanswered_call", "m[1].tool_calls")] * 2
    assert faults(user, answer("c1")) == [("orphan_tool_message", "m[1].tool_call_id")]
    assert faults(user, asked, answer("c1"), answer("c2"), answer("c3")) == [
        ("orphan_tool_message", "m[4].tool_call_id")
    ]
    assert faults(asked, answer("c1"), answer("c2"), said, answer("c1")) == [
        ("orphan_tool_message", "m[4].tool_call_id")
    ]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"$ref": "#"}, "a '$ref' in it leads back to itself, so no arguments can be told to fit"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
            "a '$ref' in it leads back to itself, so no arguments can be told to fit",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "text"}}},
            'at properties.a.type, "text" is no type of JSON: string, number, integer, boolean, object, array, null',
        ),
    ],
    ids=["itself", "through anyOf", "type"],
)
def test_parameters_that_are_not_a_schema_are_named_in_our_words(parameters: JsonObject, problem: str) -> None:
    tool: JsonObject = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    (fault,) = declared({"tools": [tool]}).faults
    assert fault.message == f"The schema is not valid: {problem}."
