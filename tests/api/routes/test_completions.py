"""The older completions over HTTP, with the real base."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused

from tunesmith.api.app import create_app
from tunesmith.render.renderer import Renderer
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


def test_a_prompt_is_scored_without_a_word_being_added(client: TestClient, renderer: Renderer) -> None:
    prompts = ["Snow 🥶 falls on Wuhan.", "A"]
    answer = ask(client, prompt=prompts, max_tokens=0, echo=True, logprobs=1)
    assert [choice["text"] for choice in answer["choices"]] == prompts
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length", "length"]
    assert answer["usage"]["completion_tokens"] == 0
    first, second = (choice["logprobs"] for choice in answer["choices"])
    assert first["tokens"] == [renderer.token_text(token) for token in renderer.text_prompt(prompts[0])]
    assert first["token_logprobs"][0] is None
    assert all(logprob < 0 for logprob in first["token_logprobs"][1:])
    assert first["top_logprobs"][0] is None
    for token, logprob, top in list(zip(first["tokens"], first["token_logprobs"], first["top_logprobs"], strict=True))[
        1:
    ]:
        assert max(top.values()) >= logprob
        assert token in top
    assert second == {"text_offset": [0], "token_logprobs": [None], "tokens": ["A"], "top_logprobs": [None]}


def test_text_offsets_count_characters_through_prompt_and_answer(client: TestClient, renderer: Renderer) -> None:
    ids = renderer.text_prompt("Snow 🥶 falls, and")
    for prompt in (ids, [ids], "Snow 🥶 falls, and"):
        (choice,) = ask(client, prompt=prompt, echo=True, logprobs=0)["choices"]
        offsets = choice["logprobs"]["text_offset"]
        assert offsets == [len(renderer.decode(ids[:n]).removesuffix("\ufffd")) for n in range(len(ids))] + offsets[-4:]
        words = zip(offsets[-4:], choice["logprobs"]["tokens"][-4:], strict=True)
        assert all(choice["text"][offset:].startswith(word) for offset, word in words)


def test_an_echo_is_streamed_before_each_choice(client: TestClient) -> None:
    for fields in (
        {"max_tokens": 2, "n": 2, "logprobs": 1},
        {"max_tokens": 0, "n": 2, "logprobs": 1},
        {"max_tokens": 0},
    ):
        wanted = {"model": "davinci-002", "prompt": "One, two,", "temperature": 0, "echo": True, **fields}
        whole = client.post(COMPLETIONS, json=wanted).json()["choices"]
        text = client.post(COMPLETIONS, json={**wanted, "stream": True}).text
        chunks = [json.loads(line.removeprefix("data: "))["choices"][0] for line in text.split("\n\n")[:-2]]
        for choice in whole:
            own = [chunk for chunk in chunks if chunk["index"] == choice["index"]]
            assert "".join(chunk["text"] for chunk in own) == choice["text"]
            assert own[-1]["finish_reason"] == choice["finish_reason"] == "length"
            if choice["logprobs"] is not None:
                for name, values in choice["logprobs"].items():
                    assert [value for chunk in own for value in chunk["logprobs"][name]] == values


def test_the_best_is_chosen_by_what_was_written_and_not_by_the_echo(client: TestClient) -> None:
    drawn = {"temperature": 1, "seed": 5, "logprobs": 0, "best_of": 4}
    plain, echoed = ask(client, **drawn), ask(client, **drawn, echo=True)
    assert echoed["choices"][0]["text"] == "One, two, three," + plain["choices"][0]["text"]


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
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": 6}, "logprobs"),
        ({"tools": []}, "tools"),
    ],
)
def test_what_cannot_be_done_is_named(client: TestClient, refused: Refused, fields: Json, param: str) -> None:
    body = {"model": "davinci-002", "prompt": "One,", **fields}
    assert refused(client.post(COMPLETIONS, json=body))["param"] == param


def test_an_unknown_model_is_a_404(client: TestClient, refused: Refused) -> None:
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
