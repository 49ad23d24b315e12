"""Rows as values: what `parse_row` reads, what it refuses, and what the chat API gets from it."""

import json
from pathlib import Path

import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.messages import FunctionCall, Message, Tool, ToolCall
from tunesmith.rows.row import (
    ChatRow,
    CompletionRow,
    PreferenceRow,
    ReinforcementRow,
    RowError,
    parse_row,
    read_rows,
)

USER: JsonObject = {"role": "user", "content": "a"}
ANSWER: JsonObject = {"role": "assistant", "content": "b"}


def test_a_chat_row_keeps_every_field() -> None:
    call: JsonObject = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    row = parse_row(
        {
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
                {**USER, "name": "ada"},
                {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
                {"role": "tool", "tool_call_id": "c1", "content": "1"},
                {**ANSWER, "weight": 1},
            ],
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
            ],
            "parallel_tool_calls": False,
        }
    )
    assert row == ChatRow(
        (
            Message("developer", "be brief"),
            Message("user", "a", name="ada"),
            Message("assistant", None, weight=0, tool_calls=(ToolCall("c1", "f", "{}"),)),
            Message("tool", "1", tool_call_id="c1"),
            Message("assistant", "b", weight=1),
        ),
        (Tool("f", None, {"type": "object"}, True),),
        parallel_tool_calls=False,
    )


def test_functions_of_2023_become_tools() -> None:
    asked: JsonObject = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}}
    row = parse_row({"messages": [USER, asked], "functions": [{"name": "f", "description": "d"}]})
    assert isinstance(row, ChatRow)
    assert row.tools == (Tool("f", "d"),)
    assert row.messages[1].function_call == FunctionCall("f", '{"x": 1}')


def test_the_four_kinds_are_told_apart() -> None:
    assert parse_row({"prompt": "a", "completion": "b"}) == CompletionRow("a", "b")
    for end in ("output", "completion"):
        pair: JsonObject = {f"preferred_{end}": [ANSWER], f"non_preferred_{end}": [{**ANSWER, "content": "c"}]}
        row = parse_row({"input": {"messages": [USER]}, **pair})
        assert row == PreferenceRow((Message("user", "a"),), (Message("assistant", "b"),), (Message("assistant", "c"),))
    row = parse_row({"messages": [USER], "answer": 4})
    assert row == ReinforcementRow((Message("user", "a"),), {"answer": 4})


def test_a_refused_row_names_path_sentence_and_cure() -> None:
    with pytest.raises(RowError) as refused:
        parse_row({"messages": [USER, {"role": "bot", "content": 1}]}, line=7)
    assert refused.value.code == "unrecognized_role"
    assert refused.value.param == "messages[1].role"
    assert refused.value.message == (
        'line 7, messages[1].role: Role "bot" is not known. Write assistant; `tunesmith fix FILE` does.'
    )
    assert [fault.code for fault in refused.value.faults] == [
        "unrecognized_role",
        "invalid_content",
    ]


def test_rows_are_read_with_their_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"prompt": "a", "completion": "b"})
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\n{line}".encode())
    assert [number for number, _ in read_rows(path)] == [1, 3]


def test_reading_an_unchecked_broken_file_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt"')
    with pytest.raises(RowError, match="line 2"):
        list(read_rows(path))


def test_integers_beyond_64_bits_are_refused_and_not_fatal() -> None:
    with pytest.raises(RowError) as refused:
        parse_row({"messages": [USER, ANSWER], "tools": -(2**70)})
    assert refused.value.code == "invalid_tool"
    with pytest.raises(RowError):
        parse_row(
            {"messages": [USER, ANSWER], "functions": [{"name": "f", "parameters": {"minimum": 2**70, "type": 1}}]}
        )
