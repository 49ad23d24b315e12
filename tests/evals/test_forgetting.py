"""The general questions: what is in them, how they are graded, and when something was forgotten."""

import importlib.util
import random
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tunesmith.evals.criteria import Reply
from tunesmith.evals.forgetting import SET, forgetting, general_questions, is_right
from tunesmith.jsonvalue import JsonObject

SCRIPT = Path(__file__).parents[2] / "scripts" / "general_set.py"
ROWS: list[JsonObject] = [orjson.loads(line) for line in SET.read_bytes().splitlines()]


def test_the_set_has_200_rows_of_six_kinds_in_two_languages() -> None:
    assert len(ROWS) >= 200
    assert len({str(row["question"]) for row in ROWS}) == len(ROWS)
    counted = Counter((row["kind"], row["language"]) for row in ROWS)
    assert len(counted) == 12
    assert min(counted.values()) >= 12


def test_the_set_is_what_its_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("general_set", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert SET.read_text(encoding="utf-8") == module.text()


def right_answer(row: JsonObject) -> str:
    if row["grader"] == "json":
        return orjson.dumps(row["value"]).decode()
    answers = row["answers"]
    assert isinstance(answers, list)
    return str(answers[0]) if row["grader"] in ("exact", "first") else f"I think: {answers[0]}."


def test_each_row_has_a_right_answer_and_a_wrong_one() -> None:
    assert [row for row in ROWS if not is_right(right_answer(row), row)] == []
    assert [row for row in ROWS if is_right("My umbrella says so, 啊!", row) or is_right("", row)] == []


@pytest.mark.parametrize(
    ("answer", "grader", "answers", "right"),
    [
        ("3 plus 4 is 7.", "number", ["7"], True),
        ("The answer is 1,200", "number", ["1200"], True),
        ("7 or 8", "number", ["7"], False),
        ("Parisian", "contains", ["Paris"], False),
        ("it is paris", "contains", ["Paris"], True),
        ("“Blue.”", "exact", ["blue", "Blue"], True),
        ("Blue is a colour", "exact", ["blue", "Blue"], False),
        ("It is Ana.", "first", ["Ana"], True),
        ("Ben is taller than Mia, but Ana", "first", ["Ana"], False),
    ],
)
def test_the_graders_judge(answer: str, grader: str, answers: list[str], right: bool) -> None:
    row: JsonObject = {"grader": grader, "answers": [*answers]}
    assert is_right(answer, row) is right


def test_a_json_answer_may_stand_in_a_fence() -> None:
    row: JsonObject = {"grader": "json", "answers": [], "value": {"a": 1}}
    assert is_right('```json\n{"a": 1}\n```', row)
    assert not is_right('{"a": 2}', row)


@pytest.mark.parametrize(
    ("before", "after", "found"), [(0.6, 0.6, False), (0.6, 0.3, True), (0.5, 0.7, False)], ids=["same", "lost", "more"]
)
def test_forgetting_is_flagged_where_the_statistics_bear_it(before: float, after: float, found: bool) -> None:
    questions, draw = general_questions(), random.Random(7)
    sides = [
        [Reply(right_answer(orjson.loads(one.reference.text)) if draw.random() < share else "?") for one in questions]
        for share in (before, after)
    ]
    probe = forgetting(questions, *sides)
    assert probe is not None
    assert probe.found is found
    assert probe.sentence.startswith("Forgetting: general questions" if found else "general questions")
    assert sum(rows for _, rows, _, _ in probe.kinds) == len(ROWS)
    assert sum(right for _, _, right, _ in probe.kinds) == round(probe.overall.before.value * len(ROWS))
