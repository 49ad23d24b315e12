"""The body of a chat request: what it takes, what it ignores, and what the OpenAPI document says of it."""

from typing import Any

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonValue
from tunesmith.wire.body import IGNORED, read
from tunesmith.wire.chat.bodies import Chat
from tunesmith.wire.tools import AllowedToolsChoice, FunctionChoice

HELLO: list[JsonValue] = [{"role": "user", "content": "Hello"}]
TOOLS = [{"type": "function", "function": {"name": "rain", "more": 1}}]
NAMED = {"type": "function", "function": {"name": "rain"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}


def chat(**fields: Any) -> Chat:
    return read(Chat, {"model": "m", "messages": HELLO, **fields})


def fault(**fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    return caught.value.param, caught.value.code


def test_a_stop_may_be_one_text_and_a_bias_has_token_ids() -> None:
    assert chat(stop="end").stop == ["end"]
    assert chat(logit_bias={"17": -100, "5": 0.5}).logit_bias == [(17, -100.0), (5, 0.5)]


def test_a_choice_becomes_the_type_that_it_names() -> None:
    assert isinstance(chat(tools=TOOLS, tool_choice=NAMED).tool_choice, FunctionChoice)
    assert isinstance(chat(tools=TOOLS, tool_choice=ALLOWED).tool_choice, AllowedToolsChoice)
    assert chat(tools=TOOLS, tool_choice="required").tool_choice == "required"


def test_a_fault_inside_a_choice_has_its_whole_path() -> None:
    wrong = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED, {"type": "custom"}]}}
    assert fault(tools=TOOLS, tool_choice=wrong)[0] == "tool_choice.allowed_tools.tools[1].type"
    assert fault(functions=[{"name": "f"}], function_call={"name": 7}) == ("function_call.name", "invalid_type")


def test_a_choice_without_tools_is_told_before_what_is_wrong_with_it() -> None:
    assert fault(tool_choice={"type": "custom"}) == ("tool_choice", "invalid_value")
    assert chat(tool_choice="none").tool_choice == "none"


def test_metadata_is_read_only_of_a_chat_that_is_stored() -> None:
    assert chat(metadata={"k": 7}).metadata is None
    assert fault(store=True, metadata={"k": 7})[0] == "metadata.k"


def test_stream_options_are_named_whole() -> None:
    assert fault(stream=True, stream_options={"more": 1}) == ("stream_options.more", "unknown_parameter")
    assert fault(stream_options={"include_usage": True})[0] == "stream_options"


def test_a_schema_is_read_only_where_the_type_says_so() -> None:
    assert chat(response_format={"type": "text", "json_schema": 7}).response_format is not None
    assert fault(response_format={"type": "json_schema", "json_schema": 7})[0] == "response_format.json_schema"


def test_a_strict_format_needs_a_schema() -> None:
    named = {"type": "json_schema", "json_schema": {"name": "x", "strict": True}}
    needed = ("response_format.json_schema.schema", "missing_required_parameter")
    assert fault(response_format=named) == needed
    assert fault(response_format={**named, "json_schema": {**named["json_schema"], "schema": None}}) == needed  # type: ignore[dict-item]
    for loose in ({"name": "x"}, {"name": "x", "strict": False}, {"name": "x", "strict": True, "schema": {}}):
        assert chat(response_format={**named, "json_schema": loose}).response_format is not None


def test_refused_fields_are_not_in_the_document_and_ignored_ones_are() -> None:
    schema = Chat.model_json_schema()
    assert schema["additionalProperties"] is False
    ignored = {name for name, field in Chat.model_fields.items() if IGNORED in field.metadata}
    assert ignored
    assert ignored <= schema["properties"].keys()
    assert not {"audio", "prediction", "verbosity"} & schema["properties"].keys()
    assert sorted(schema["required"]) == ["messages", "model"]
    assert schema["$defs"]["FunctionChoice"]["required"] == ["type", "function"]
