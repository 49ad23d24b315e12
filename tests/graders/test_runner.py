"""A run of a grader, with a model that is a function."""

import asyncio

from tunesmith.errors import ServerFault
from tunesmith.graders.grader import ScoreModel, read_grader
from tunesmith.graders.results import Record, Tokens
from tunesmith.graders.runner import Messages, run
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


def ran(grader: JsonObject, wrote: str | Exception = "7") -> tuple[Record, list[Messages]]:
    asked: list[Messages] = []

    async def ask(leaf: ScoreModel, messages: Messages, record: Record) -> tuple[str, str]:
        asked.append(messages)
        assert leaf.sampling == {"temperature": 0, "max_completion_tokens": 3}
        record.spend(leaf.model, Tokens(5, 1))
        if isinstance(wrote, Exception):
            raise wrote
        return leaf.model, wrote

    record = Record()
    asyncio.run(run(read_grader(grader), Variables("a"), record, ask))
    return record, asked


def test_a_multi_grader_asks_its_model_once_and_joins_the_scores() -> None:
    record, asked = ran(MULTI)
    assert asked == [[("user", "Rate a.")]]
    assert (record.reward, record.scores, record.faults) == (1.7, {"c": 1.0, "judge": 7.0}, {})
    assert record.tokens["m"].total == 6


def test_a_model_that_fails_or_leaves_the_range_gives_no_reward_and_says_why() -> None:
    for wrote, flag in ((ServerFault("broke"), "model_grader_server_error"), ("11", "model_grader_parse_error")):
        record, _ = ran(SCORE, wrote)
        assert (record.reward, list(record.faults)) == (0.0, [flag])
        assert record.tokens["m"].total == 6
