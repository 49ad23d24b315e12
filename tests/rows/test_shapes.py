"""Shapes of plain rows and texts of any row: both ways count, locate and identify alike."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.message_faults import PLAIN_ROLES, order_faults
from tunesmith.rows.row_texts import RowTexts, row_texts
from tunesmith.rows.shapes import MAX_MESSAGES, digest, joint_digest, shape_of, text_digest
from tunesmith.tokens import PER_EXAMPLE, PER_MESSAGE, PER_NAME, PER_ROLE

SYSTEM: JsonObject = {"role": "system", "content": "s"}
USER: JsonObject = {"role": "user", "content": "a"}
ANSWER: JsonObject = {"role": "assistant", "content": "b"}
TOOL: JsonObject = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(*messages: Any, **more: Any) -> RowTexts:
    return row_texts({"messages": list(messages), **more})


def test_the_shape_of_a_conversation() -> None:
    shape = shape_of(("system", "user", "assistant", "user", "assistant"))
    assert shape is not None
    assert shape.warnings == ()
    assert shape.learned == (False, False, True, False, True)
    assert shape.overhead == PER_EXAMPLE + 5 * (PER_MESSAGE + PER_ROLE)
    assert (shape.answer_at, shape.system_at) == (4, 0)


@pytest.mark.parametrize(
    "roles",
    [
        (),
        ("user",),
        ("system", "user"),
        ("user", "assistant", "tool"),
        ("user", "bot"),
        ("user", None),
        ("user", "assistant", 1),
        ("user", "assistant") * MAX_MESSAGES,
    ],
)
def test_roles_that_need_the_careful_path(roles: tuple[object, ...]) -> None:
    assert shape_of(roles) is None


@given(st.lists(st.sampled_from(PLAIN_ROLES), min_size=1, max_size=6), st.data())
def test_a_shape_and_the_texts_of_a_row_agree(roles: list[str], data: st.DataObject) -> None:
    shape = shape_of(tuple(roles))
    if shape is None:
        assert "assistant" not in roles
        return
    texts = [data.draw(st.text(min_size=1, max_size=4)) for _ in roles]
    row = chat(*[{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)])
    assert (row.texts, tuple(row.roles), tuple(row.learned)) == (texts, shape.roles, shape.learned)
    assert (row.overhead, row.system_at) == (shape.overhead, shape.system_at)
    assert row.paths == [f"messages[{number}].content" for number in range(len(roles))]
    digests = [text_digest(text.encode()) for text in texts]
    assert row.prompt == joint_digest((shape.seed, *digests[: shape.answer_at]))
    assert row.answer == joint_digest((shape.seed, *digests[shape.answer_at :]))
    assert row.system == (digests[shape.system_at] if shape.system_at >= 0 else 0)
    assert list(shape.warnings) == list(order_faults(roles, "messages"))


def test_digests_tell_texts_their_order_and_their_borders_apart() -> None:
    found = {digest([b"ab"]), digest([b"a", b"b"]), digest([b"b", b"a"]), digest([b"ab"], 1), digest([])}
    assert len(found) == 5
    assert digest([b"a", b"b"]) == digest([b"a", b"b"])


def test_every_text_of_a_chat_row_is_counted_with_its_path() -> None:
    parts = [{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "y"}]
    row = chat(
        {**SYSTEM, "name": "boss"},
        {"role": "user", "content": parts[:1]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "assistant", "content": "b", "weight": 0},
        {"role": "assistant", "content": parts},
        {"role": "assistant", "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "assistant", "refusal": "No."},
        tools=[TOOL],
        functions=[{"name": "old"}],
    )
    assert list(zip(row.paths, row.texts, row.learned, strict=True)) == [
        ("tools[0]", '{"name":"f","parameters":{"type":"object"}}', False),
        ("functions[0]", '{"name":"old"}', False),
        ("messages[0].content", "s", False),
        ("messages[0].name", "boss", False),
        ("messages[1].content[0].text", "x", False),
        ("messages[2].tool_calls[0].function.name", "f", True),
        ("messages[2].tool_calls[0].function.arguments", "{}", True),
        ("messages[3].content", "1", False),
        ("messages[4].content", "b", False),
        ("messages[5].content[0].text", "x", True),
        ("messages[5].content[1].text", "y", True),
        ("messages[6].function_call.name", "g", True),
        ("messages[6].function_call.arguments", "{}", True),
        ("messages[7].refusal", "No.", True),
    ]
    assert row.overhead == PER_EXAMPLE + 8 * (PER_MESSAGE + PER_ROLE) + PER_NAME
    assert (row.system_at, row.texts[row.system_at]) == (2, "s")


def test_the_texts_of_the_other_kinds() -> None:
    completion = row_texts({"prompt": "a", "completion": "b"})
    assert (completion.texts, completion.paths) == (["a", "b"], ["prompt", "completion"])
    assert (completion.learned, completion.overhead, completion.roles) == ([False, True], 0, [])
    source: JsonObject = {"messages": [SYSTEM, USER], "tools": [TOOL]}
    pair = row_texts({"input": source, "preferred_output": [ANSWER], "non_preferred_output": [USER | ANSWER]})
    assert pair.paths == [
        "input.tools[0]",
        "input.messages[0].content",
        "input.messages[1].content",
        "non_preferred_output[0].content",
        "preferred_output[0].content",
    ]
    assert pair.learned == [False, False, False, True, True]
    prompt = row_texts({"messages": [USER], "answer": 1})
    assert (prompt.texts, prompt.learned) == (["a"], [False])


def test_equal_rows_have_equal_digests_whatever_the_order_of_keys() -> None:
    one = chat(USER, {"role": "assistant", "content": "b", "weight": 1}, tools=[TOOL])
    two = row_texts(
        {
            "tools": [{"function": {"parameters": {"type": "object"}, "name": "f"}, "type": "function"}],
            "messages": [{"content": "a", "role": "user"}, {"weight": 1, "content": "b", "role": "assistant"}],
        }
    )
    assert (one.prompt, one.answer) == (two.prompt, two.answer)


@pytest.mark.parametrize(
    "other",
    [
        ([USER, {**ANSWER, "content": "c"}], {}),
        ([{**USER, "content": "c"}, ANSWER], {}),
        ([SYSTEM, USER, ANSWER], {}),
        ([USER, ANSWER, USER, ANSWER], {}),
        ([USER, ANSWER], {"tools": [TOOL]}),
    ],
)
def test_rows_that_differ_have_other_digests(other: tuple[list[object], dict[str, object]]) -> None:
    one, two = chat(USER, ANSWER), chat(*other[0], **other[1])
    assert (one.prompt, one.answer) != (two.prompt, two.answer)


def test_prompts_are_the_same_where_only_the_answer_differs() -> None:
    one, two = chat(SYSTEM, USER, ANSWER), chat(SYSTEM, USER, {**ANSWER, "content": "c"})
    assert one.prompt == two.prompt
    assert one.answer != two.answer


def test_a_row_without_texts_still_has_one() -> None:
    assert chat({"role": "assistant", "tool_calls": []}).texts == [""]
