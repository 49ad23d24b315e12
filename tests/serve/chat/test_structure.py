"""`response_format` and the choice of tools, as a request says them."""

from typing import Any

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.rows.messages import Tool
from tunesmith.serve.chat.request import ChatRequest, chat_request
from tunesmith.serve.chat.schema import ANY_OBJECT
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat

WEATHER = {"name": "get_weather", "description": "Now", "parameters": {"type": "object"}}
TIME = {"name": "get_time"}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": TIME}]
NAMED = {"type": "function", "function": {"name": "get_time"}}
IMPOSSIBLE = {"type": "object", "properties": {"a": {"not": {"multipleOf": 2}}}}


def parsed(**fields: Any) -> ChatRequest:
    return chat_request(read(Chat, {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}))


def fault(**fields: Any) -> tuple[str | None, str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    return caught.value.param, caught.value.code, caught.value.message


def answered(**values: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": values}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_a_response_format_is_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    for strict in ({}, {"strict": True}, {"strict": False}, {"strict": None, "description": "x"}):
        assert parsed(response_format=answered(name="a-b_1", schema=schema, **strict)).response_schema == schema
    assert parsed(response_format={"type": "json_object"}).response_schema == ANY_OBJECT
    assert parsed(response_format=answered(name="x")).response_schema == ANY_OBJECT
    assert parsed(response_format={"type": "text"}).response_schema is None


@pytest.mark.parametrize(
    ("value", "param", "code", "words"),
    [
        ({}, "type", "missing_required_parameter", "Missing"),
        ({"type": "yaml"}, "type", "invalid_value", "'yaml'"),
        ({"type": "json_schema"}, "json_schema", "missing_required_parameter", "Missing"),
        (answered(schema={}), "json_schema.name", "missing_required_parameter", "Missing"),
        (answered(name="a b"), "json_schema.name", "invalid_value", "'a b' is not 1 to 64 of the characters"),
        (answered(name="x" * 65), "json_schema.name", "invalid_value", "1 to 64"),
        (answered(name="x", description=1), "json_schema.description", "invalid_type", "a string"),
        (answered(name="x", strict="yes"), "json_schema.strict", "invalid_type", "a boolean"),
        (answered(name="x", schema=[]), "json_schema.schema", "invalid_type", "an object"),
        (answered(name="x", shema={}), "json_schema.shema", "unknown_parameter", "shema"),
        (
            answered(name="x", schema=IMPOSSIBLE),
            "json_schema.schema",
            "invalid_json_schema",
            "at properties.a.not, what is not of this 'multipleOf' cannot be spelled",
        ),
    ],
)
def test_a_wrong_response_format_is_named(value: dict[str, Any], param: str, code: str, words: str) -> None:
    found = fault(response_format=value)
    assert found[:2] == (f"response_format.{param}", code)
    assert words in found[2]


def test_a_choice_of_tools_says_what_may_and_what_must_be_called() -> None:
    def use(**fields: Any) -> tuple[list[str], list[str], bool, bool]:
        tools = parsed(tools=TOOLS, **fields).tools
        names = [[tool.name for tool in group] for group in (tools.declared, tools.callable)]
        return names[0], names[1], tools.required, tools.single

    both = ["get_weather", "get_time"]
    assert use() == use(tool_choice="auto") == (both, both, False, False)
    assert use(tool_choice="none") == ([], [], False, False)
    assert use(tool_choice="required") == (both, both, True, False)
    assert use(tool_choice="required", parallel_tool_calls=False) == (both, both, True, True)
    assert use(tool_choice=NAMED) == (both, ["get_time"], True, True)
    assert use(tool_choice=allowed("auto", "get_time")) == (["get_time"], ["get_time"], False, False)
    assert use(tool_choice=allowed("required", *both)) == (both, both, True, False)
    assert parsed(tools=TOOLS, tool_choice=allowed("auto", "get_time")).tools.limited


def test_functions_are_the_old_name_of_tools() -> None:
    newer = parsed(tools=TOOLS[:1], tool_choice="auto").tools
    older = parsed(functions=[WEATHER], function_call="auto").tools
    assert newer.declared == older.declared == (Tool("get_weather", "Now", {"type": "object"}),)
    assert (newer.legacy, newer.single, older.legacy, older.single) == (False, False, True, True)
    forced = parsed(functions=[WEATHER, TIME], function_call={"name": "get_time"}).tools
    assert (len(forced.declared), [tool.name for tool in forced.callable], forced.required) == (2, ["get_time"], True)


@pytest.mark.parametrize(
    ("choice", "param", "words"),
    [
        ("sometimes", "tool_choice", "'none', 'auto' and 'required'"),
        ({"type": "custom", "custom": {"name": "x"}}, "tool_choice.type", "only functions"),
        ({"type": "function"}, "tool_choice.function", "an object"),
        ({"type": "function", "function": {}}, "tool_choice.function.name", "Missing"),
        (
            {"type": "function", "function": {"name": "x"}},
            "tool_choice",
            "'x' is not declared; there are 'get_weather'",
        ),
        (allowed("auto"), "tool_choice.allowed_tools.tools", "empty"),
        (allowed("maybe", "get_time"), "tool_choice.allowed_tools.mode", "'maybe'"),
        (allowed("auto", "x"), "tool_choice", "'x' is not declared"),
    ],
)
def test_a_wrong_choice_is_named(choice: Any, param: str, words: str) -> None:
    found = fault(tools=TOOLS, tool_choice=choice)
    assert found[0] == param
    assert words in found[2]


def test_the_old_choice_knows_no_required() -> None:
    found = fault(functions=[WEATHER], function_call="required")
    assert found[0] == "function_call"
    assert "'none' and 'auto'" in found[2]


def test_strict_parameters_that_cannot_be_held_to_are_refused() -> None:
    def strict(parameters: dict[str, Any], strict: bool = True) -> list[dict[str, Any]]:
        return [{"type": "function", "function": {"name": "f", "parameters": parameters, "strict": strict}}]

    found = fault(tools=strict(IMPOSSIBLE))
    assert found[:2] == ("tools[0].function.parameters", "invalid_function_parameters")
    assert "function 'f': at properties.a.not, what is not of this 'multipleOf' cannot be spelled" in found[2]
    assert "its type is 'string'" in fault(tools=strict({"type": "string"}))[2]
    assert parsed(tools=strict(IMPOSSIBLE, strict=False)).tools.declared[0].parameters == IMPOSSIBLE
