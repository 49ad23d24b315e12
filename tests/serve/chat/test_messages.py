"""The messages of a chat request: what clients keep and send back, and errors in a chat's words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonValue
from tunesmith.rows import message_faults, tool_faults
from tunesmith.rows.codes import CODES
from tunesmith.rows.messages import FunctionCall, Message, ToolCall
from tunesmith.serve.chat.messages import FIXES, read_messages

USER: dict[str, Any] = {"role": "user", "content": "a"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "b"}
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
A_FILE_S_WORDS = re.compile(r"\b(rows?|lines?|train(s|ed|ing)?|learn(s|ed|ing)?|files?|datasets?|tunesmith)\b", re.I)


def asked(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **fields}


def calling(**function: Any) -> dict[str, Any]:
    return asked(tool_calls=[{**CALL, "function": {"name": "f", "arguments": "{}", **function}}])


def refusal(value: JsonValue) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_messages(value)
    return caught.value


def test_a_chat_may_end_with_the_user_and_hold_empty_content() -> None:
    assert read_messages([{"role": "user", "content": ""}]) == (Message("user", ""),)


@pytest.mark.parametrize(
    "kept",
    [
        {"refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None},
        {"refusal": None, "tool_calls": [], "parsed": None},
        {"parsed": {"city": "Paris"}, "annotations": [{"type": "url_citation", "url_citation": {"url": "x"}}]},
        {"reasoning_content": "Hm.", "reasoning": "Hm.", "reasoning_details": [{"text": "Hm."}]},
        {"provider_specific_fields": {"refusal": None}, "thinking_blocks": [{"thinking": "Hm."}], "images": []},
        {"id": "chatcmpl-1-0", "content_parts": None, "name": None, "index": 0, "cache_control": {"type": "ephemeral"}},
        {"weight": 0.5, "prefix": False, "a_key_of_tomorrow": None},
    ],
    ids=lambda kept: "-".join(kept)[:40],
)
def test_what_clients_keep_beside_an_answer_changes_nothing(kept: dict[str, JsonValue]) -> None:
    messages = read_messages([USER, {**ANSWER, **kept}, USER])
    roles_and_contents = [(message.role, message.content) for message in messages]
    assert roles_and_contents == [("user", "a"), ("assistant", "b"), ("user", "a")]


def test_calls_as_parse_and_langchain_keep_them_are_read() -> None:
    call = {**CALL, "index": 0, "function": {**CALL["function"], "parsed_arguments": {}}}
    messages = read_messages([USER, asked(tool_calls=[call]), {"role": "tool", "tool_call_id": "c1", "content": "1"}])
    assert messages[1].tool_calls == (ToolCall("c1", "f", "{}"),)


@pytest.mark.parametrize("arguments", ['{"city":', "", "[1]", "null", "not json"])
def test_arguments_are_whatever_the_model_wrote(arguments: str) -> None:
    answered: JsonValue = {"role": "tool", "tool_call_id": "c1", "content": "1"}
    assert read_messages([USER, calling(arguments=arguments), answered])[1].tool_calls == (
        ToolCall("c1", "f", arguments),
    )
    old = asked(function_call={"name": "f", "arguments": arguments})
    assert read_messages([USER, old])[1].function_call == FunctionCall("f", arguments)


def test_a_stored_message_has_its_content_in_parts() -> None:
    parts = [{"type": "text", "text": "Hi"}]
    stored: dict[str, Any] = {"id": "x-0", "role": "user", "content": None, "content_parts": parts}
    assert read_messages([stored]) == (Message("user", "Hi"),)


def test_messages_that_are_none_are_refused_in_openais_words() -> None:
    empty = refusal([])
    assert empty.message == (
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
    )
    assert (empty.param, empty.code) == ("messages", "empty_array")
    text = refusal("hi")
    assert text.message == "Invalid type for 'messages': expected an array of objects, but got a string instead."
    assert (text.param, text.code) == ("messages", "invalid_type")
    lacking = refusal([{"role": "user"}])
    assert lacking.message == "Missing required parameter: 'messages[0].content'."
    assert (lacking.param, lacking.code) == ("messages[0].content", "missing_required_parameter")


WRONG: list[tuple[JsonValue, str]] = [
    (["hi"], "message_not_object"),
    ([{**USER, "contnet": "x"}], "message_unrecognized_key"),
    ([{**ANSWER, "audio": {"id": "audio_1"}}], "message_unrecognized_key"),
    ([{**USER, "role": "bot"}], "unrecognized_role"),
    ([{"role": "user", "content": None}], "missing_content"),
    ([{**USER, "content": []}], "missing_content"),
    ([{**USER, "content": 7}], "invalid_content"),
    ([{**USER, "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "unsupported_part"),
    ([{**USER, "content": ["hi"]}], "invalid_part"),
    ([{**USER, "content": [{"type": "text"}]}], "invalid_part"),
    ([{**USER, "name": 7}], "invalid_value"),
    ([{**USER, "tool_calls": [CALL]}], "misplaced_key"),
    ([USER, asked(tool_calls="f")], "invalid_tool_call"),
    ([USER, asked(tool_calls=["f"])], "invalid_tool_call"),
    ([USER, asked(tool_calls=[{**CALL, "type": "custom"}])], "invalid_tool_call"),
    ([USER, asked(tool_calls=[{**CALL, "id": None}])], "invalid_tool_call"),
    ([USER, asked(tool_calls=[{**CALL, "function": None}])], "invalid_tool_call"),
    ([USER, calling(name="")], "invalid_tool_call"),
    ([USER, calling(arguments=None)], "invalid_tool_call"),
    ([USER, calling(arguments={"a": 1})], "arguments_not_text"),
    ([USER, {"role": "tool", "tool_call_id": "c9", "content": "1"}], "orphan_tool_message"),
]


@pytest.mark.parametrize(("messages", "code"), WRONG, ids=lambda value: value if isinstance(value, str) else "in")
def test_errors_name_the_field_and_speak_of_the_request_only(messages: JsonValue, code: str) -> None:
    error = refusal(messages)
    assert error.code == code
    assert error.message.startswith(f"Invalid '{error.param}': ")
    assert error.message.endswith(f". {FIXES[code]}")
    assert not A_FILE_S_WORDS.search(error.message)


def codes_in(module: object) -> Iterator[str]:
    """The codes of all faults that a module's source makes."""
    tree = ast.parse(Path(str(getattr(module, "__file__", ""))).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fault":
            yield from (str(part.value) for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant))


def test_every_error_of_a_message_has_a_chats_words_and_an_example_above() -> None:
    of_rows = {
        "missing_messages",
        "invalid_weight",
        "arguments_not_json",
    }  # read_messages knows better, or does not mind
    of_rows |= {code for code in CODES if code.startswith(("invalid_tool_schema", "arguments_do_not", "undeclared"))}
    of_rows |= {"invalid_tool", "duplicate_tool"}  # of declarations: the wire's types refuse those
    made = {code for module in (message_faults, tool_faults) for code in codes_in(module) if code in CODES}
    errors = {code for code in made if CODES[code].severity == "error"} - of_rows
    assert errors == FIXES.keys() | {"message_missing_key"}
    assert {code for _, code in WRONG} == set(FIXES)
