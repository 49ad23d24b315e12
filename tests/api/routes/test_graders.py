"""Graders over HTTP: the shapes of OpenAI's description, refusals, and a real model that scores."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

Json = dict[str, Any]
RUN, VALIDATE = "/v1/fine_tuning/alpha/graders/run", "/v1/fine_tuning/alpha/graders/validate"
CHECK = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
    "operation": "eq",
}
FUZZY = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
    "evaluation_metric": "rouge_1",
}
SCORE = {
    "type": "score_model",
    "name": "judge",
    "model": "smollm2-135m-instruct",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "What is 1+1? Only the number."}]}],
    "sampling_params": {"temperature": 0, "max_completions_tokens": 3},
    "range": [-1000, 1000],
}


@pytest.fixture
def app(settings: Settings, store: Store, pool: Pool) -> FastAPI:
    return create_app(settings, store, pool)


def run(client: TestClient, grader: Json, sample: str = "Rome", **item: Any) -> Json:
    answer = client.post(RUN, json={"grader": grader, "model_sample": sample, "item": item})
    assert answer.status_code == 200, answer.text
    value: Json = answer.json()
    return value


def test_a_run_has_openais_shape(client: TestClient, valid: Callable[..., None]) -> None:
    answer = run(client, CHECK, label="Rome")
    valid("RunGraderResponse", answer)
    assert (answer["reward"], answer["metadata"]["scores"], answer["sub_rewards"]) == (1.0, {}, {})
    assert len(answer["metadata"]["errors"]) == 24
    assert not any(answer["metadata"]["errors"].values())


@pytest.mark.parametrize("graders", [[CHECK, FUZZY], {"same": CHECK, "near": FUZZY}])
def test_a_multi_grader_joins_its_scores(client: TestClient, graders: Any) -> None:
    multi = {"type": "multi", "name": "both", "graders": graders, "calculate_output": "0.5 * same + 0.5 * near"}
    answer = run(client, multi, "rome", label="Rome")
    assert (answer["reward"], answer["sub_rewards"]) == (0.5, {"same": 0.0, "near": 1.0})


def test_a_missing_variable_gives_no_reward_and_says_which(client: TestClient) -> None:
    answer = client.post(RUN, json={"grader": CHECK, "model_sample": "Rome"})
    assert answer.json()["reward"] == 0.0
    assert answer.json()["metadata"]["errors"]["invalid_variable_error"] is True
    assert "'label'" in answer.headers["x-tunesmith-grader-fault"]


def test_a_formula_without_result_gives_no_reward(client: TestClient) -> None:
    multi = {"type": "multi", "name": "m", "graders": {"same": CHECK}, "calculate_output": "1 / same"}
    answer = run(client, multi, "x", label="y")
    assert (answer["reward"], answer["metadata"]["errors"]["other_error"]) == (0.0, True)


def test_a_model_scores_and_its_tokens_are_counted(client: TestClient, valid: Callable[..., None]) -> None:
    answer = run(client, SCORE)
    valid("RunGraderResponse", answer)
    used = answer["model_grader_token_usage_per_model"]["smollm2-135m-instruct"]
    assert 0 < used["completion_tokens"] <= 3
    assert answer["metadata"]["token_usage"] == used["total_tokens"]
    assert answer["metadata"]["sampled_model_name"] == "smollm2-135m-instruct"
    assert (
        answer["metadata"]["errors"]["model_grader_exceeded_max_tokens_error"] is True
    )  # three words without a number


def test_a_model_can_write_nothing_but_a_label(client: TestClient, valid: Callable[..., None]) -> None:
    shared = {key: SCORE[key] for key in ("name", "model", "input")}
    label = {**shared, "type": "label_model", "labels": ["ja", "nein"], "passing_labels": ["ja", "nein"]}
    answer = run(client, label)
    valid("RunGraderResponse", answer)
    assert answer["reward"] == 1.0
    assert answer["metadata"]["sampled_model_name"] == "smollm2-135m-instruct"


def test_large_whole_numbers_keep_their_digits(client: TestClient) -> None:
    assert run(client, {**CHECK, "reference": "{{item.n}}"}, str(2**64), n=2**64)["reward"] == 1.0


def test_a_nameless_grader_is_answered_with_a_name(client: TestClient) -> None:
    nameless = {key: value for key, value in CHECK.items() if key != "name"}
    answer = client.post(VALIDATE, json={"grader": {**nameless, "pass_threshold": 0.5}})
    assert answer.status_code == 200
    assert answer.json()["grader"]["name"].startswith("grader-")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ([], 400, None),
        ({}, 400, "grader"),
        ({"grader": CHECK, "more": 1}, 400, "more"),
        ({"grader": {**CHECK, "type": "golang"}}, 400, "grader.type"),
        ({"grader": {**SCORE, "model": "nobody"}}, 404, "model"),
    ],
)
def test_a_wrong_grader_is_not_validated(
    client: TestClient, refused: Refused, body: Any, status: int, param: str | None
) -> None:
    assert refused(client.post(VALIDATE, json=body), status)["param"] == param


def test_the_official_client_validates_and_runs(client: TestClient, key: str) -> None:
    official = openai.OpenAI(api_key=key, base_url="http://testserver/v1", http_client=client, max_retries=0)
    graders = official.fine_tuning.alpha.graders
    check: Any = CHECK
    validated = graders.validate(grader=check).grader
    assert validated is not None
    assert validated.to_dict() == CHECK
    assert graders.run(grader=check, model_sample="Rome", item={"label": "Rome"}).reward == 1.0
