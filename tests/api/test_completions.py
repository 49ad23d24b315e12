"""The older completions over HTTP, with the real base."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.data.render import Renderer
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

Json = dict[str, Any]
COMPLETIONS = "/v1/completions"


@pytest.fixture
def app(settings: Settings, store: Store, pool: Pool) -> FastAPI:
    return create_app(settings, store, pool)


def ask(client: TestClient, **fields: Any) -> Json:
    body = {"model": "davinci-002", "prompt": "One, two, three,", "temperature": 0, "max_tokens": 4, **fields}
    answer = client.post(COMPLETIONS, json=body)
    assert answer.status_code == 200, answer.text
    value: Json = answer.json()
    return value


def test_text_is_continued_in_openais_shape(client: TestClient, valid: Callable[..., None]) -> None:
    answer = ask(client)
    valid("CreateCompletionResponse", answer)
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert (answer["object"], answer["model"]) == ("text_completion", "smollm2-135m-instruct")
    (choice,) = answer["choices"]
    assert list(choice) == ["text", "index", "logprobs", "finish_reason"]
    assert choice["text"].startswith(" four")
    assert (choice["logprobs"], choice["finish_reason"]) == (None, "length")


def test_prompts_times_choices_are_numbered_through(client: TestClient) -> None:
    answer = ask(client, prompt=["One, two,", "A, B,"], n=2, max_tokens=2, temperature=1, seed=1)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["completion_tokens"] <= 8


def test_token_ids_are_a_prompt_too(client: TestClient, renderer: Renderer) -> None:
    text = ask(client)["choices"][0]["text"]
    ids = renderer.encode("One, two, three,")
    assert ask(client, prompt=ids)["choices"][0]["text"] == text
    assert ask(client, prompt=[ids])["choices"][0]["text"] == text


def test_a_stream_says_the_same(client: TestClient) -> None:
    body = {"model": "davinci-002", "prompt": "One, two, three,", "temperature": 0, "max_tokens": 4, "stream": True}
    text = client.post(COMPLETIONS, json={**body, "stream_options": {"include_usage": True}}).text
    assert text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    plain = ask(client)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == plain["choices"][0]["text"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], plain["usage"])


def test_echo_and_logprobs(client: TestClient) -> None:
    assert ask(client, echo=True)["choices"][0]["text"].startswith("One, two, three, four")
    logprobs = ask(client, logprobs=2)["choices"][0]["logprobs"]
    assert list(logprobs) == ["text_offset", "token_logprobs", "tokens", "top_logprobs"]
    assert len(logprobs["tokens"]) == 4
    assert logprobs["text_offset"] == [0, *(len("".join(logprobs["tokens"][:n])) for n in (1, 2, 3))]
    assert all(len(top) == 2 for top in logprobs["top_logprobs"])


def test_the_2023_path_names_the_model_in_the_url(client: TestClient) -> None:
    answer = client.post("/v1/engines/davinci-002/completions", json={"prompt": "One, two,", "max_tokens": 1})
    assert answer.json()["object"] == "text_completion"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [99999]}, "prompt"),
        ({"prompt": "rain " * 9000}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 21}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 6}, "logprobs"),
        ({"tools": []}, "tools"),
    ],
)
def test_what_cannot_be_done_is_named(
    client: TestClient, refused: Callable[..., Json], fields: Json, param: str
) -> None:
    body = {"model": "davinci-002", "prompt": "One,", **fields}
    assert refused(client.post(COMPLETIONS, json=body))["param"] == param


def test_an_unknown_model_is_a_404(client: TestClient, refused: Callable[..., Json]) -> None:
    assert refused(client.post(COMPLETIONS, json={"model": "x", "prompt": "a"}), 404)["code"] == "model_not_found"


def test_best_of_answers_the_likeliest_of_what_it_made(client: TestClient) -> None:
    drawn = {"temperature": 1, "seed": 5, "logprobs": 0}
    every = ask(client, **drawn, n=4)["choices"]
    means = [sum(one["logprobs"]["token_logprobs"]) / len(one["logprobs"]["tokens"]) for one in every]
    ranked = [every[index]["text"] for index in sorted(range(4), key=means.__getitem__, reverse=True)]
    answer = ask(client, **drawn, n=2, best_of=4)
    assert [one["text"] for one in answer["choices"]] == ranked[:2]
    assert answer["usage"]["completion_tokens"] > sum(len(one["logprobs"]["tokens"]) for one in answer["choices"])
    assert ask(client, temperature=1, seed=5, n=1, best_of=4)["choices"][0]["logprobs"] is None
