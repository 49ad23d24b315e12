"""The verdict as an eval: its graders give the criteria's scores, its runs the verdict's numbers."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from tests.evals.test_evaluation import answer, pairs

from tunesmith.evals.answers import Pair
from tunesmith.evals.criteria import CRITERIA, EXACT, ROUGE, SAME_CALLS, WORDS, Criterion, Reply
from tunesmith.evals.evaluation import evaluate
from tunesmith.evals.questions import Question
from tunesmith.evals.verdict.as_eval import OfJob, as_eval
from tunesmith.evals.verdict.graders import grader
from tunesmith.graders.grader import StringCheck, TextSimilarity, read_grader, score
from tunesmith.graders.templates import Variables
from tunesmith.jsonvalue import JsonObject
from tunesmith.store.evals.rows import Totals
from tunesmith.store.evals.sums import Sums

TEXTS = (
    "",
    "yes",
    " yes\n",
    "no, never",
    "I'm sorry, I cannot help with that.",
    '{"a": 1, "b": [1, 2.5]}',
    '{"b": [1, 2.5, 3], "a": 2}',
    '{"a": true, "b": []}',
    '{"a": "1"}',
    "[1, 2]",
    '{"a": NaN}',
    '{"a": 1',
    "12",
)
CALLS = ((), (("f", '{"a": 1}'),), (("f", '{ "a":1 }'), ("g", "")), (("g", "{}"), ("f", '{"a": 1}')), (("f", "{"),))
REPLIES = [Reply(text) for text in TEXTS] + [Reply("", calls) for calls in CALLS[1:]]


def graded(criterion: Criterion, reply: Reply, reference: Reply) -> float:
    """What the grader says, as a run of the eval would ask it."""
    value = grader(criterion)
    calls: list[JsonObject] = [{"function": {"name": name, "arguments": text}} for name, text in reply.calls]
    wanted: list[JsonObject] = [{"name": name, "arguments": text} for name, text in reference.calls]
    item: JsonObject = {"reference": {"text": reference.text, "tool_calls": [*wanted]}}
    if value["type"] == "python":
        space: dict[str, Any] = {}
        exec(str(value["source"]), space)
        return float(space["grade"]({"output_text": reply.text, "output_tools": calls}, item))
    leaf = read_grader(value)
    assert isinstance(leaf, StringCheck | TextSimilarity)
    return score(leaf, Variables(reply.text, item, tuple(calls)))


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda one: one.name)
def test_a_criterions_grader_gives_its_scores(criterion: Criterion) -> None:
    compared = 0
    for reply, reference in product(REPLIES, REPLIES):
        wanted = criterion.judge(reply, reference)
        if wanted is None:
            if criterion not in (ROUGE, WORDS):
                assert graded(criterion, reply, reference) == 1.0
        elif not (criterion is WORDS and not reply.text and not reference.text):  # two empty texts have no words
            assert graded(criterion, reply, reference) == pytest.approx(wanted, abs=1e-12), (reply, reference)
            compared += 1
    assert compared > 30


def test_graders_have_the_shapes_that_the_description_has() -> None:
    kinds = {str(grader(one)["type"]) for one in CRITERIA}
    assert kinds == {"python", "text_similarity"}
    for one in CRITERIA:
        value = grader(one)
        keys = {"name", "type", "pass_threshold"}
        keys |= {"source"} if value["type"] == "python" else {"evaluation_metric", "input", "reference"}
        assert value.keys() == keys
    assert (grader(EXACT)["name"], grader(SAME_CALLS)["type"]) == ("same text", "python")


def test_a_runs_results_are_the_verdicts_table() -> None:
    job = OfJob("ftjob-1", "default", "key_1")
    made = [*pairs(0.3, 0.9, 30), *_calls(10)]
    verdict = evaluate("base", "ft:tuned", made, base="none")
    found = as_eval(verdict.to_json(), job)
    assert found is not None
    for side, run in enumerate(found.runs):
        sums = Sums()
        for _, saved in run.items:
            sums.add(saved)
        totals = Totals.from_json(sums.values()["totals"])  # type: ignore[arg-type]  # as it is stored
        tables = dict(zip((one.criterion.name for one in verdict.outcomes), totals.criteria, strict=True))
        for one in verdict.outcomes:
            passed, failed = tables[one.criterion.name]
            assert passed + failed == one.rows  # rows that a criterion has nothing to do with are in neither
            if one.table is not None:
                right = one.table.both + (one.table.gained if side else one.table.lost)
                assert passed == right, one.criterion.name
        assert (run.new.model, sums.done) == (("base", "ft:tuned")[side], 40)
    called = found.runs[1].items[-1][1]
    assert called.sample is not None
    assert called.sample["finish_reason"] == "tool_calls"
    assert [one["name"] for one in called.results] == ["same tool calls", "no refusal"]
    assert [one for one in found.new.testing_criteria if one["name"] == "same tool calls"]


def test_an_evaluation_without_known_criteria_is_no_eval() -> None:
    found = evaluate("base", "t", pairs(0.3, 0.9, 9)).to_json()
    assert as_eval({**found, "criteria": [{"name": "of a later version"}]}, OfJob("ftjob-1", "default", None)) is None


def _calls(rows: int) -> list[Pair]:
    call = Reply("", (("f", "{}"),))
    question = Question(1000, ({"role": "user", "content": "?"},), {}, call)
    before, after = replace(answer("x", "base"), reply=Reply("f()")), replace(answer("x", "tuned"), reply=call)
    return [Pair(replace(question, line=1000 + row), before, after) for row in range(rows)]
