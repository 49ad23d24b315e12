"""From which score on a criterion is passed, and what its texts refer to."""

import pytest

from tunesmith.evals.runs.criteria import read_criteria, refers_to_sample, shown_criteria
from tunesmith.evals.runs.results import result, state, verdicts
from tunesmith.graders.results import Record
from tunesmith.jsonvalue import JsonObject

SAME: JsonObject = {"type": "string_check", "name": "s", "input": "{{item.a}}", "reference": "b", "operation": "eq"}
NEAR: JsonObject = {"type": "text_similarity", "name": "n", "input": "a", "reference": "b", "pass_threshold": 0.8}
NEAR["evaluation_metric"] = "fuzzy_match"
ASKED: list[JsonObject] = [{"role": "user", "content": "Rate {{ sample.output_text }}"}]
RATE: JsonObject = {"type": "score_model", "name": "r", "model": "m", "input": [*ASKED], "range": [2, 8]}
CODE: JsonObject = {"type": "python", "name": "p", "source": "def grade(sample, item): return 1"}


@pytest.mark.parametrize(
    ("value", "threshold"),
    [
        (SAME, 1.0),
        (NEAR, 0.8),
        (RATE, 5.0),
        ({**RATE, "pass_threshold": 3}, 3.0),
        (CODE, 0.5),
        ({**SAME, "pass_threshold": 0}, 0.0),
    ],
    ids=["string", "text", "score", "given", "code", "nought"],
)
def test_a_criterion_passes_from_its_threshold_on(value: JsonObject, threshold: float) -> None:
    [criterion] = read_criteria([value])
    assert criterion.threshold == threshold
    for reward in (threshold, threshold - 0.01):
        assert result(criterion, Record(reward=reward))["passed"] is (reward == threshold)


def test_texts_that_refer_to_an_answer_are_found() -> None:
    found = [refers_to_sample(one) for one in read_criteria([SAME, NEAR, RATE, CODE])]
    assert found == [False, False, True, False]


def test_a_made_up_name_stays() -> None:
    values = [{name: value for name, value in SAME.items() if name != "name"}]
    shown = shown_criteria(values, read_criteria(values))
    assert read_criteria(shown)[0].name == shown[0]["name"]


def test_one_criterion_without_a_score_makes_the_row_an_error() -> None:
    [criterion] = read_criteria([SAME])
    good, bad = result(criterion, Record(reward=1.0)), result(criterion, Record())
    broken = result(criterion, Record(reward=1.0, faults={"other_error": "No."}))
    assert (state([good]), state([good, bad]), state([good, broken])) == ("pass", "fail", "error")
    assert verdicts([good, bad, broken]) == (True, False, None)
    assert (broken["passed"], broken["error"]) == (False, {"code": "other_error", "message": "No."})
