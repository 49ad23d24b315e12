"""A run of a grader, with a model that is a function."""

import asyncio

import pytest

from tunesmith.errors import ServerFault
from tunesmith.graders.grader import ModelGrader, ScoreModel, read_grader
from tunesmith.graders.results import Record, Tokens, result
from tunesmith.graders.runner import Helpers, Messages, Wrote, run
from tunesmith.graders.templates import Variables
from tunesmith.jsonvalue import JsonObject

CHECK: JsonObject = {
    "type": "string_check",
    "name": "c",
    "input": "{{sample.output_text}}",
    "reference": "a",
    "operation": "eq",
}
SCORE: JsonObject = {
    "type": "score_model",
    "name": "judge",
    "model": "m",
    "input": [{"role": "user", "content": "Rate {{sample.output_text}}."}],
    "range": [0, 10],
    "sampling_params": {"temperature": 0, "max_completions_tokens": 3},
}
MULTI: JsonObject = {"type": "multi", "name": "both", "graders": [CHECK, SCORE], "calculate_output": "c + judge / 10"}


LABEL: JsonObject = {
    "type": "label_model",
    "name": "mood",
    "model": "m",
    "input": [{"role": "user", "content": "Is {{sample.output_text}} good?"}],
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}


def ran(grader: JsonObject, wrote: str | Exception = "7", *, cut: bool = False) -> tuple[Record, list[Messages]]:
    asked: list[Messages] = []

    async def ask(leaf: ModelGrader, messages: Messages, record: Record) -> Wrote:
        asked.append(messages)
        record.spend(leaf.model, Tokens(5, 1))
        if isinstance(wrote, Exception):
            raise wrote
        return Wrote(leaf.model, wrote, cut)

    record = Record()
    asyncio.run(run(read_grader(grader), Variables("a"), record, Helpers(ask)))
    return record, asked


def test_a_score_model_is_sampled_as_it_says() -> None:
    grader = read_grader(SCORE)
    assert isinstance(grader, ScoreModel)
    assert grader.sampling == {"temperature": 0, "max_completion_tokens": 3}


def test_a_multi_grader_asks_its_model_once_and_joins_the_scores() -> None:
    record, asked = ran(MULTI)
    assert asked == [[("user", "Rate a.")]]
    assert (record.reward, record.scores, record.faults) == (1.7, {"c": 1.0, "judge": 7.0}, {})
    assert record.tokens["m"].total == 6


@pytest.mark.parametrize(("wrote", "score"), [("11", 10.0), ("-3", 0.0), ("10", 10.0)])
def test_a_score_beyond_the_range_counts_as_its_end(wrote: str, score: float) -> None:
    record, _ = ran(SCORE, wrote)
    assert (record.reward, record.faults) == (score, {})


@pytest.mark.parametrize(
    ("grader", "wrote", "cut", "flag"),
    [
        (SCORE, ServerFault("broke"), False, "model_grader_server_error"),
        (SCORE, "a lot", False, "model_grader_parse_error"),
        (SCORE, "I think that", True, "model_grader_exceeded_max_tokens_error"),
        (LABEL, '{"label": "go', True, "model_grader_exceeded_max_tokens_error"),
        (LABEL, '{"label": 3}', False, "model_grader_parse_error"),
    ],
)
def test_a_model_that_fails_or_writes_no_score_gives_no_reward_and_says_why(
    grader: JsonObject, wrote: str | Exception, cut: bool, flag: str
) -> None:
    record, _ = ran(grader, wrote, cut=cut)
    assert (record.reward, list(record.faults)) == (0.0, [flag])
    assert record.tokens["m"].total == 6


@pytest.mark.parametrize(("label", "score"), [("good", 1.0), ("bad", 0.0)])
def test_a_label_passes_or_not_alone_and_within_multi(label: str, score: float) -> None:
    multi: JsonObject = {"type": "multi", "name": "all", "graders": {"in": LABEL}, "calculate_output": "2 * in"}
    assert ran(LABEL, f'{{"label": "{label}"}}')[0].reward == score
    assert ran(multi, f'{{"label": "{label}"}}')[0].reward == 2 * score


def test_a_python_grader_without_a_jail_is_a_fault_of_the_server() -> None:
    grader: JsonObject = {"type": "python", "name": "code", "source": "def grade(sample, item): return 1.0"}
    record, _ = ran(grader)
    errors = result(read_grader(grader), record, 0.1)["metadata"]["errors"]
    assert (record.reward, errors["python_grader_server_error"], errors["python_grader_runtime_error"]) == (
        0,
        True,
        False,
    )
    assert errors["python_grader_server_error_type"] == "no_jail"
