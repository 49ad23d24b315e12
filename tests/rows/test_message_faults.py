"""Faults of messages: each field, each role, and the order of turns."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.jsonvalue import JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.message_faults import ROLES, message_faults, messages_faults, order_faults, type_name

USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def found(message: Any, *, training: bool = True) -> list[tuple[str, str]]:
    """(code, path) of each fault of a message."""
    return [(fault.code, fault.path) for fault in message_faults(message, "m", training=training)]


def codes(messages: Any, *, training: bool = True) -> list[str]:
    return [fault.code for fault in messages_faults(messages, "messages", training=training)]


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_a_role_and_a_text_have_no_fault(role: str) -> None:
    assert found({"role": role, "content": "a"}) == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (None, "The message is null, not an object."),
        ([], "The message is a list, not an object."),
        ("hi", "The message is text, not an object."),
        (1.5, "The message is a number, not an object."),
        (True, "The message is true, not an object."),
    ],
)
def test_a_message_that_is_not_an_object_is_named(message: JsonValue, said: str) -> None:
    (fault,) = message_faults(message, "m")
    assert (fault.code, fault.path, fault.message) == ("message_not_object", "m", said)


@pytest.mark.parametrize(
    ("message", "faults"),
    [
        ({"content": "a"}, [("message_missing_key", "m.role")]),
        ({"role": "user"}, [("message_missing_key", "m.content")]),
        ({}, [("message_missing_key", "m.role"), ("message_missing_key", "m.content")]),
        ({"role": "bot", "content": "a"}, [("unrecognized_role", "m.role")]),
        ({"role": None, "content": "a"}, [("unrecognized_role", "m.role")]),
        ({"role": ["user"], "content": "a"}, [("unrecognized_role", "m.role")]),
        ({**USER, "colour": "red"}, [("message_unrecognized_key", "m.colour")]),
        ({**USER, "audio": {"id": "x"}}, [("message_unrecognized_key", "m.audio")]),
        ({**USER, "audio": None, "annotations": [], "colour": None, "logprobs": {}}, []),
        ({**ANSWER, "parsed": {"a": 1}}, [("key_not_trained", "m.parsed")]),
        (
            {**ANSWER, "provider_specific_fields": {"a": 1}, "id": "msg-1"},
            [("key_not_trained", "m.provider_specific_fields"), ("key_not_trained", "m.id")],
        ),
        ({**ANSWER, "reasoning": "Hm."}, [("message_unrecognized_key", "m.reasoning")]),
        ({**ANSWER, "reasoning_content": "Hm."}, []),
        ({**ANSWER, "reasoning_content": None, "reasoning": None}, []),
        ({**USER, "tool_calls": [], "function_call": None}, []),
    ],
)
def test_keys_and_roles(message: object, faults: list[tuple[str, str]]) -> None:
    assert found(message) == faults


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ("a", []),
        ([{"type": "text", "text": "a"}], []),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}], []),
        ([{"type": "refusal", "refusal": "no"}], []),
        (None, [("missing_content", "m.content")]),
        ("", [("missing_content", "m.content")]),
        ([], [("missing_content", "m.content")]),
        (7, [("invalid_content", "m.content")]),
        ({"text": "a"}, [("invalid_content", "m.content")]),
        (["a"], [("invalid_part", "m.content[0]")]),
        ([{"type": "text"}], [("invalid_part", "m.content[0]")]),
        ([{"type": "text", "text": 1}], [("invalid_part", "m.content[0]")]),
        ([{"type": "refusal", "text": "no"}], [("invalid_part", "m.content[0]")]),
        ([{"type": "song", "text": "la"}], [("invalid_part", "m.content[0]")]),
        ([{"type": "text", "text": "a"}, {"type": "image_url"}], [("unsupported_part", "m.content[1].type")]),
        ([{"type": "input_audio"}, {"type": "file"}], [("unsupported_part", f"m.content[{n}].type") for n in (0, 1)]),
    ],
)
def test_contents(content: object, faults: list[tuple[str, str]]) -> None:
    assert found({"role": "user", "content": content}) == faults


@pytest.mark.parametrize(
    ("message", "faults"),
    [
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, []),
        ({"role": "assistant", "tool_calls": [CALL]}, []),
        ({"role": "assistant", "content": "", "refusal": "No."}, []),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, []),
        ({"role": "assistant", "content": None}, [("missing_content", "m.content")]),
        ({"role": "assistant", "content": None, "refusal": ""}, [("missing_content", "m.content")]),
        ({"role": "assistant", "content": " \n"}, [("blank_answer", "m.content")]),
        ({"role": "user", "content": " \n"}, []),
        ({"role": "tool", "tool_call_id": "c1", "content": ""}, [("empty_content", "m.content")]),
        ({"role": "function", "name": "f", "content": ""}, [("empty_content", "m.content")]),
    ],
)
def test_what_stands_in_for_a_content(message: object, faults: list[tuple[str, str]]) -> None:
    assert found(message) == faults


@pytest.mark.parametrize("content", ["", " "])
def test_empty_texts_matter_only_for_training(content: str) -> None:
    message = {"role": "assistant", "content": content}
    assert found(message)
    assert found(message, training=False) == []


@pytest.mark.parametrize(
    ("message", "faults"),
    [
        ({**ANSWER, "weight": 0}, []),
        ({**ANSWER, "weight": 1.0}, []),
        ({**ANSWER, "weight": None}, []),
        ({**ANSWER, "weight": 2}, [("invalid_weight", "m.weight")]),
        ({**ANSWER, "weight": 0.5}, [("invalid_weight", "m.weight")]),
        ({**ANSWER, "weight": True}, [("invalid_weight", "m.weight")]),
        ({**ANSWER, "weight": "1"}, [("invalid_weight", "m.weight")]),
        ({**USER, "weight": 1}, [("weight_ignored", "m.weight")]),
        ({**USER, "weight": 3}, [("invalid_weight", "m.weight")]),
        ({**USER, "name": "ada"}, [("name_not_trained", "m.name")]),
        ({**USER, "name": 1}, [("invalid_value", "m.name")]),
        ({**ANSWER, "refusal": 1}, [("invalid_value", "m.refusal")]),
        ({**USER, "refusal": "no"}, [("misplaced_key", "m.refusal")]),
        ({**USER, "tool_call_id": "c1"}, [("misplaced_key", "m.tool_call_id")]),
        ({**USER, "tool_call_id": None}, []),
        ({"role": "tool", "content": "1"}, [("message_missing_key", "m.tool_call_id")]),
        ({"role": "function", "content": "1"}, [("message_missing_key", "m.name")]),
        ({"role": "function", "name": "f", "content": "1"}, []),
    ],
)
def test_further_fields(message: object, faults: list[tuple[str, str]]) -> None:
    assert found(message) == faults


def test_calls_are_for_the_assistant_alone() -> None:
    assert ("misplaced_key", "m.tool_calls") in found({**USER, "tool_calls": [CALL]})
    assert ("misplaced_key", "m.function_call") in found({**USER, "function_call": {"name": "f", "arguments": "{}"}})


@pytest.mark.parametrize(
    ("roles", "faults"),
    [
        (["system", "user", "assistant"], []),
        (["developer", "user", "assistant"], []),
        (["user", "assistant"], [("no_system", "messages")]),
        (["system", "assistant"], [("no_user", "messages"), ("role_order", "messages[1].role")]),
        (["system", "user", "user", "assistant"], [("role_order", "messages[2].role")]),
        (["system", "user", "assistant", "assistant"], [("role_order", "messages[3].role")]),
        (["system", "user", "assistant", "tool", "tool", "assistant"], []),
        (["user", "system", "assistant"], [("system_not_first", "messages[1]")]),
        (["system", "developer", "user", "assistant"], []),
        (["system", "user", "assistant", "user"], [("last_not_assistant", "messages[3]")]),
        (["system", "user", "assistant", "tool"], [("last_not_assistant", "messages[3]")]),
        (["system", "user"], []),
        (["system"], [("no_user", "messages")]),
    ],
)
def test_order_of_turns(roles: list[str], faults: list[tuple[str, str]]) -> None:
    assert [(fault.code, fault.path) for fault in order_faults(roles, "messages")] == faults


def test_the_order_is_judged_only_where_every_message_is_sound() -> None:
    assert codes([USER]) == ["no_system"]
    assert codes([USER], training=False) == []
    assert codes([{**USER, "colour": 1}]) == ["message_unrecognized_key"]
    assert codes([USER, "hi"]) == ["message_not_object"]
    assert codes([{**USER, "name": "Ana"}, {**ANSWER, "parsed": 1}]) == [
        "name_not_trained",
        "key_not_trained",
        "no_system",
    ]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "'messages' is an empty list."),
        (None, "'messages' is null, not a list."),
        ({"role": "user"}, "'messages' is an object, not a list."),
        ("hi", "'messages' is text, not a list."),
        (False, "'messages' is false, not a list."),
    ],
)
def test_what_is_not_a_list_of_messages(messages: JsonValue, said: str) -> None:
    (fault,) = messages_faults(messages, "messages")
    assert (fault.code, fault.path, fault.message) == ("missing_messages", "messages", said)


@given(st.lists(st.sampled_from(ROLES), min_size=1, max_size=6))
def test_any_order_of_roles_only_warns(roles: list[str]) -> None:
    for fault in order_faults(roles, "messages"):
        assert CODES[fault.code].severity == "warning"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_is_named_and_never_fatal(value: object) -> None:
    assert type_name(value)  # type: ignore[arg-type]
    assert codes(value) or isinstance(value, list)
    assert found(value)


def test_unknown_keys_are_named_in_their_order() -> None:
    keys = [f"extra_{number}" for number in (3, 1, 7, 5, 0, 2, 6, 4)]
    assert [path for _, path in found(USER | dict.fromkeys(keys, 1))] == [f"m.{key}" for key in keys]
