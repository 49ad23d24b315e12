"""The questions of a file, and which of them are asked."""

from pathlib import Path

import orjson
import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.evals.criteria import Reply
from tunesmith.evals.questions import read_questions, sample
from tunesmith.jsonvalue import JsonObject, JsonValue

USER: JsonObject = {"role": "user", "content": "hi"}
TOOL: JsonObject = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def written(tmp_path: Path, *rows: JsonObject) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def test_each_learned_answer_is_a_question_with_what_stands_before_it(tmp_path: Path) -> None:
    answer: JsonObject = {"role": "assistant", "content": "one", "weight": 0}
    second: JsonObject = {"role": "assistant", "content": "two"}
    found = read_questions(written(tmp_path, {"messages": [USER, answer, USER, second], "tools": [TOOL]}))
    assert [(one.line, one.reference) for one in found] == [(1, Reply("two"))]
    assert found[0].messages == (USER, {"role": "assistant", "content": "one"}, USER)
    assert found[0].options == {"tools": [TOOL]}


def test_of_a_preference_row_the_preferred_answer_is_the_reference(tmp_path: Path) -> None:
    row: JsonObject = {
        "input": {"messages": [USER]},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "bad"}],
    }
    found = read_questions(written(tmp_path, row))
    assert [(one.messages, one.reference.text) for one in found] == [((USER,), "good")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "completion": "b"}, "no answers to compare with"),
        ({"messages": [USER]}, "line 1, messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "tunesmith check"),
    ],
)
def test_a_file_that_cannot_be_compared_is_refused(tmp_path: Path, row: JsonObject, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read_questions(written(tmp_path, row))


def test_a_sample_takes_whole_conversations_and_always_the_same(tmp_path: Path) -> None:
    turn: list[JsonValue] = [USER, {"role": "assistant", "content": "x"}]
    row: JsonObject = {"messages": [*turn, *turn]}
    questions = read_questions(written(tmp_path, *[row] * 30))
    chosen = sample(questions, 21)
    assert len(chosen) == 20
    assert chosen == sample(questions, 21)
    assert [one.line for one in chosen] == sorted(one.line for one in chosen)
    assert all([two.line for two in chosen].count(one.line) == 2 for one in chosen)
    assert sample(questions, 60) == questions
