"""What is asked for each kind of row."""

import json
from pathlib import Path

import pytest

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.replay.questions import Question, read_questions
from tunesmith.rows.findings import Finding

HI: JsonObject = {"role": "user", "content": "hi"}
YO: JsonObject = {"role": "assistant", "content": "yo"}
TOOL: JsonObject = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def ask(tmp_path: Path, *rows: JsonValue) -> list[Question | Finding]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return list(read_questions(file))


def only(tmp_path: Path, row: JsonValue) -> Question:
    (found,) = ask(tmp_path, row)
    assert isinstance(found, Question), found
    return found


def test_answer_at_the_end_is_not_asked(tmp_path: Path) -> None:
    assert only(tmp_path, {"messages": [HI, YO]}).messages == [HI]


def test_earlier_answers_are_kept_without_their_weight(tmp_path: Path) -> None:
    row: JsonObject = {"messages": [HI, {**YO, "weight": 0}, HI, {**YO, "weight": 1}]}
    assert only(tmp_path, row).messages == [HI, YO, HI]


def test_row_without_an_answer_is_asked_as_it_is(tmp_path: Path) -> None:
    assert only(tmp_path, {"messages": [HI]}).messages == [HI]


def test_prompt_is_a_users_message(tmp_path: Path) -> None:
    assert only(tmp_path, {"prompt": "hi"}).messages == [HI]


def test_tools_are_asked_with_and_other_keys_are_named(tmp_path: Path) -> None:
    found = only(tmp_path, {"messages": [HI], "tools": [TOOL], "parallel_tool_calls": False, "id": 7})
    assert found.tools == {"tools": [TOOL], "parallel_tool_calls": False}
    assert found.dropped == ("id",)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "completion": "b"}, "prompt/completion"),
        ({"input": {"messages": [HI]}, "preferred_output": [YO], "non_preferred_output": [YO]}, "preference"),
        ({"messages": [YO]}, "only assistant messages"),
        ({"messages": "hi"}, "not a list"),
        ({"messages": [{"role": "sage", "content": "hi"}]}, "sage"),
        ({"text": "hi"}, "neither 'messages' nor a 'prompt'"),
        ([1], "not an object"),
        ("{", "ends before the row does"),
    ],
    ids=["completion", "preference", "assistant", "text", "role", "unknown", "list", "broken"],
)
def test_row_that_cannot_be_asked_is_named(tmp_path: Path, row: JsonValue, said: str) -> None:
    good, found = ask(tmp_path, {"messages": [HI]}, row)
    assert isinstance(good, Question)
    assert isinstance(found, Finding)
    assert found.line == 2
    assert said in found.message


def test_equal_rows_have_keys_of_their_own(tmp_path: Path) -> None:
    first, second, other = ask(tmp_path, {"messages": [HI, YO]}, {"messages": [HI]}, {"prompt": "other"})
    assert isinstance(first, Question)
    assert isinstance(second, Question)
    assert isinstance(other, Question)
    assert second.key == f"{first.key}-2"
    assert not other.key.startswith(first.key)
