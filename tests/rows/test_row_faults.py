"""Faults of whole rows of the four kinds, and how the kinds are told apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.check.fix.fixed_row import fixed_row
from tunesmith.rows.codes import CODES
from tunesmith.rows.row import RowError, parse_row
from tunesmith.rows.row_faults import Kind, kind_of, row_faults

SYSTEM = {"role": "system", "content": "s"}
USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
OTHER = {**ANSWER, "content": "c"}
CHAT = {"messages": [SYSTEM, USER, ANSWER]}
COMPLETION = {"prompt": "a", "completion": "b"}
PREFERENCE = {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]}
PROMPT = {"messages": [USER], "answer": 4}


def codes(row: Any, kind: Kind | None = None) -> list[str]:
    return [fault.code for fault in row_faults(row, kind)]


def faults(row: Any, kind: Kind | None = None) -> list[tuple[str, str]]:
    return [(fault.code, fault.path) for fault in row_faults(row, kind)]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (CHAT, "chat"),
        ({**CHAT, "tools": []}, "chat"),
        ({**CHAT, "extra": 1}, "chat"),  # ends with the assistant: the key is a mistake
        ({"messages": "x"}, "chat"),
        (COMPLETION, "completion"),
        ({"prompt": "a"}, "completion"),
        ({"completion": "b"}, "completion"),
        (PREFERENCE, "preference"),
        ({"preferred_completion": []}, "preference"),
        (PROMPT, "reinforcement"),
        ({"text": "a"}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_kind_is_told_by_the_keys(row: object, kind: Kind | None) -> None:
    assert kind_of(row) == kind  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [CHAT, COMPLETION, PREFERENCE, PROMPT])
def test_good_rows_have_no_fault(row: Any) -> None:
    assert faults(row) == []
    assert faults(row, kind_of(row)) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [([], "a list"), ("a", "text"), (None, "null"), (1, "a number"), (True, "true")],
)
def test_a_row_that_is_not_an_object(row: Any, said: str) -> None:
    (fault,) = row_faults(row)
    assert (fault.code, fault.message) == ("not_an_object", f"The row is {said}, not an object.")


def test_a_row_of_another_kind_than_the_file() -> None:
    assert codes(COMPLETION, "chat") == ["mixed_kinds"]
    assert codes(PREFERENCE, "completion") == ["mixed_kinds"]
    assert codes(CHAT, "preference") == ["mixed_kinds"]
    assert codes(PROMPT, "reinforcement") == []


def test_what_the_file_holds_decides_between_chat_and_reinforcement() -> None:
    assert faults(PROMPT, "chat")[0] == ("extra_key", "answer")
    assert "missing_assistant" in codes(PROMPT, "chat")
    assert faults(CHAT, "reinforcement") == [("not_ending_with_user", "messages[2]")]


def test_a_row_without_known_keys_is_taken_for_what_the_file_holds() -> None:
    assert faults({"rows": 1}) == [("extra_key", "rows"), ("missing_messages", "messages")]
    assert faults({"text": "a"}) == [("unclear_columns", "")]
    assert faults({}, "completion") == [("missing_key", "prompt"), ("missing_key", "completion")]
    assert faults({}, "preference") == [
        ("missing_key", "input"),
        ("missing_key", "preferred_output"),
        ("missing_key", "non_preferred_output"),
    ]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({**CHAT, "mesages": 1}, [("extra_key", "mesages")]),
        ({"messages": [SYSTEM, USER]}, [("missing_assistant", "messages")]),
        ({"messages": [SYSTEM, USER, {**ANSWER, "weight": 0}]}, [("nothing_to_learn", "messages")]),
        ({"messages": [SYSTEM, USER, {**ANSWER, "weight": 0}, USER, ANSWER]}, []),
        ({**CHAT, "parallel_tool_calls": "yes"}, [("invalid_value", "parallel_tool_calls")]),
        ({**CHAT, "parallel_tool_calls": None}, []),
        ({**CHAT, "tools": 1}, [("invalid_tool", "tools")]),
    ],
)
def test_chat_rows(row: object, found: list[tuple[str, str]]) -> None:
    assert faults(row) == found


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": "", "completion": "b"}, [("empty_prompt", "prompt")]),
        ({"prompt": "a", "completion": " "}, [("empty_completion", "completion")]),
        ({"prompt": "a", "completion": ""}, [("empty_completion", "completion")]),
        ({"prompt": 1, "completion": None}, [("invalid_value", "prompt"), ("invalid_value", "completion")]),
        ({"prompt": "a"}, [("missing_key", "completion")]),
        ({**COMPLETION, "id": 1}, [("extra_key", "id")]),
    ],
)
def test_completion_rows(row: object, found: list[tuple[str, str]]) -> None:
    assert faults(row) == found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"input": None}, [("invalid_value", "input")]),
        ({"input": {}}, [("missing_messages", "input.messages")]),
        ({"input": {"messages": [USER], "model": "m"}}, [("extra_key", "input.model")]),
        ({"input": {"messages": [USER, ANSWER]}}, [("input_ends_with_assistant", "input.messages")]),
        ({"input": {"messages": [USER], "tools": 1}}, [("invalid_tool", "input.tools")]),
        ({"preferred_output": []}, [("output_not_assistant", "preferred_output")]),
        ({"preferred_output": [USER]}, [("output_not_assistant", "preferred_output")]),
        ({"preferred_output": [ANSWER, OTHER]}, [("output_not_assistant", "preferred_output")]),
        ({"preferred_output": None}, [("output_not_assistant", "preferred_output")]),
        ({"preferred_output": "b"}, [("other_shape", "")]),
        ({"preferred_output": [{**ANSWER, "content": None}]}, [("missing_content", "preferred_output[0].content")]),
        ({"preferred_output": [OTHER]}, [("same_outputs", "preferred_output")]),
        ({"rating": 5}, [("extra_key", "rating")]),
    ],
)
def test_preference_rows(change: dict[str, object], found: list[tuple[str, str]]) -> None:
    assert faults({**PREFERENCE, **change}) == found


def test_the_older_spelling_of_preference_rows_is_accepted() -> None:
    old = {"input": {"messages": [USER]}, "preferred_completion": [ANSWER], "non_preferred_completion": [OTHER]}
    assert faults(old) == []
    assert faults({**old, "non_preferred_completion": [ANSWER]}) == [("same_outputs", "preferred_completion")]


def test_reinforcement_rows_end_with_the_user_and_may_have_any_further_key() -> None:
    assert faults({"messages": [USER, ANSWER, USER], "answer": {"deep": [1]}}, "reinforcement") == []
    assert faults({"messages": [USER, ANSWER]}, "reinforcement") == [("not_ending_with_user", "messages[1]")]
    assert codes({"messages": []}, "reinforcement") == ["missing_messages"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", " ", "user", "assistant", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "messages", "input", "type", "text", "weight"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*CHAT, *COMPLETION, *PREFERENCE, "tools", "extra"]), JSON))
def test_any_row_is_explained_and_parsed_exactly_when_it_has_no_error(row: Any) -> None:
    errors = [code for code in codes(row) if CODES[code].severity == "error"]
    if not errors:
        parse_row(row)
        return
    with pytest.raises(RowError) as refused:
        parse_row(row)
    assert [fault.code for fault in refused.value.faults] == errors


def chat_of(*messages: Any) -> Any:
    return {"messages": list(messages)}


@pytest.mark.parametrize("role", ["Assistant", "ASSISTANT", " assistant", "bot", "model"])
def test_a_role_that_is_misspelt_has_one_fault_and_its_fix(role: str) -> None:
    answer = {**ANSWER, "role": role}
    (fault,) = row_faults(chat_of(SYSTEM, USER, answer))
    assert (fault.code, fault.path) == ("unrecognized_role", "messages[2].role")
    assert fault.fix == "Write assistant; `tunesmith fix FILE` does."
    pair: dict[str, Any] = {**PREFERENCE, "preferred_output": [answer]}
    assert faults(pair) == [("unrecognized_role", "preferred_output[0].role")]
    named = {"messages": [SYSTEM, USER, ANSWER, {"role": role, "tool_calls": []}, USER, ANSWER]}
    assert "message_missing_key" in codes(named)


def test_a_role_that_means_nothing_is_not_said_to_be_fixed() -> None:
    found = list(row_faults(chat_of(SYSTEM, USER, {**ANSWER, "role": "wizard"})))
    assert [(fault.code, fault.fix) for fault in found] == [("unrecognized_role", None), ("missing_assistant", None)]
    assert "fix FILE" not in CODES["unrecognized_role"].fix


ENDS = (
    "The messages before the two answers end with another answer: end them with the user's turn, which the two answer, "
    "or delete the answers that should not be learned."
)


@pytest.mark.parametrize("keys", [("preferred_output", "non_preferred_output"), ("chosen", "rejected")])
@pytest.mark.parametrize("prompt", ["messages", "prompt"])
def test_messages_that_end_with_an_answer_beside_two_answers(keys: tuple[str, str], prompt: str) -> None:
    """The check and `fix` agree: what repeats an answer is converted, another answer is named with what to do."""
    third = {**ANSWER, "content": "third"}
    for answers in ([ANSWER], [OTHER]), ([USER, ANSWER], [USER, OTHER]):
        row: Any = {prompt: [USER, ANSWER], **dict(zip(keys, answers, strict=True))}
        assert codes(row) == ["other_shape"]
        done = fixed_row(row, None)
        assert (done.row, done.errors) == (PREFERENCE, [])
    unclear: Any = {prompt: [USER, third], **dict(zip(keys, ([ANSWER], [OTHER]), strict=True))}
    for found in (list(row_faults(unclear)), fixed_row(unclear, None).errors):
        assert [(fault.code, fault.message) for fault in found] == [("unclear_shape", ENDS)]
    bare: Any = {prompt: [ANSWER], **dict(zip(keys, ([ANSWER], [OTHER]), strict=True))}
    assert [fault.message for fault in row_faults(bare)] == [ENDS]


def test_a_row_of_another_shape_that_stays_faulty_says_what_comes_first() -> None:
    row: Any = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": ""}]}
    found = list(row_faults(row))
    assert [fault.code for fault in found] == ["other_shape", "missing_content"]
    assert (found[0].fix or "").startswith("First change what else is wrong with the row; then `tunesmith fix FILE`")
    assert [fault.code for fault in fixed_row(row, None).errors] == ["missing_content"]
