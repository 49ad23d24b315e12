"""Chat over HTTP: the real application, store, base and adapters."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.testclient import TestClient
from tests.api.conftest import Refused

from tunesmith.api.app import create_app
from tunesmith.errors import ServerFault
from tunesmith.models.adapters import read_manifest
from tunesmith.render.renderer import Renderer
from tunesmith.serve.engine.protocol import Delta, GenerateRequest, Generation
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

Json = dict[str, Any]
CHAT = "/v1/chat/completions"
PARIS = [{"role": "user", "content": "What is the capital of France?"}]
CHUNK_KEYS = ["id", "object", "created", "model", "service_tier", "system_fingerprint", "choices"]


@pytest.fixture
def app(settings: Settings, store: Store, pool: Pool) -> FastAPI:
    return create_app(settings, store, pool)


def ask(client: TestClient, **fields: Any) -> Json:
    body = {"model": "smollm2-135m-instruct", "messages": PARIS, "temperature": 0, "max_tokens": 12, **fields}
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    value: Json = answer.json()
    return value


def stream(client: TestClient, **fields: Any) -> list[Json]:
    """The chunks, after checking the envelope around them."""
    body = {"model": "smollm2-135m-instruct", "messages": PARIS, "temperature": 0, "max_tokens": 12, "stream": True}
    answer = client.post(CHAT, json={**body, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.endswith("data: [DONE]\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n")[:-2]]


def test_a_plain_answer_has_openais_keys_in_openais_order(client: TestClient, valid: Callable[..., None]) -> None:
    answer = ask(client, model="gpt-3.5-turbo")
    valid("CreateChatCompletionResponse", answer)
    keys = ["id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"]
    assert list(answer) == keys
    assert answer["model"] == "smollm2-135m-instruct"  # the alias is made visible
    assert answer["id"].startswith("chatcmpl-")
    (choice,) = answer["choices"]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason"]
    assert list(choice["message"].items()) == [
        ("role", "assistant"),
        ("content", "The capital of France is Paris."),
        ("refusal", None),
        ("annotations", []),
    ]
    assert (choice["logprobs"], choice["finish_reason"]) == (None, "stop")
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 7


def test_a_stream_says_the_same_as_a_plain_answer(client: TestClient, valid: Callable[..., None]) -> None:
    chunks = stream(client)
    plain = ask(client)["choices"][0]
    assert [list(chunk) for chunk in chunks] == [CHUNK_KEYS] * len(chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1
    for chunk in chunks:
        valid("CreateChatCompletionStreamResponse", chunk)
        assert len(chunk["choices"]) == 1
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert choices[-1] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert len(choices) > 5
    assert all(choice["delta"].keys() == {"content"} for choice in choices[1:-1])
    assert "".join(choice["delta"].get("content", "") for choice in choices) == plain["message"]["content"]


def test_usage_is_streamed_only_on_request(client: TestClient) -> None:
    usage = [ask(client)["usage"] for _ in range(2)][1]  # the cache holds all of the prompt but its last token
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
    *chunks, last = stream(client, stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    assert (last["choices"], last["usage"]) == ([], usage)


def test_logprobs_stand_beside_every_visible_token(client: TestClient) -> None:
    content = ask(client, logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == "The capital of France is Paris."
    for entry in content:
        assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert entry["top_logprobs"][0] == {key: entry[key] for key in ("token", "logprob", "bytes")}
        assert len(entry["top_logprobs"]) == 3
    streamed = stream(client, logprobs=True, top_logprobs=3)
    assert streamed[0]["choices"][0]["logprobs"] == {"content": [], "refusal": None}
    collected = [e for c in streamed[:-1] for e in c["choices"][0]["logprobs"]["content"]]
    assert [entry["token"] for entry in collected] == [entry["token"] for entry in content]


def test_a_stop_string_is_neither_in_the_answer_nor_in_the_stream(client: TestClient) -> None:
    choice = ask(client, stop=["ance is"])["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("The capital of Fr", "stop")
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(client, stop=["ance is"])]
    assert "".join(delta.get("content", "") for delta in deltas) == "The capital of Fr"


def test_the_length_limit_finishes_with_length(client: TestClient) -> None:
    answer = ask(client, max_tokens=None, max_completion_tokens=3)
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 3)


def test_n_choices_are_numbered_and_counted(client: TestClient) -> None:
    answer = ask(client, n=3, temperature=1.0, seed=5, max_tokens=4)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] <= 12
    again = ask(client, n=3, temperature=1.0, seed=5, max_tokens=4)
    assert again["choices"] == answer["choices"]
    streamed = stream(client, n=3, temperature=1.0, seed=5, max_tokens=4)
    assert [c["choices"][0]["index"] for c in streamed[:3]] == [0, 1, 2]
    for index, choice in enumerate(answer["choices"]):
        texts = [c["choices"][0]["delta"].get("content", "") for c in streamed if c["choices"][0]["index"] == index]
        assert "".join(texts) == choice["message"]["content"]


def test_a_tuned_model_answers_by_its_name_and_otherwise_than_its_base(client: TestClient, tuned: str) -> None:
    answer = ask(client, model=tuned)
    assert answer["model"] == tuned
    assert answer["choices"][0]["message"]["content"] != ask(client)["choices"][0]["message"]["content"]


def test_an_answer_says_which_tuned_weights_gave_it(client: TestClient, tuned: str, store: Store) -> None:
    """While both are asked at once, so that an adapter that stays on would show."""
    model = store.models.get(tuned)
    assert model is not None
    digest = read_manifest(model.adapter_dir).sha256
    alone = ask(client)["choices"][0]["message"]["content"]
    asked = [("smollm2-135m-instruct", "none"), (tuned, digest), ("gpt-3.5-turbo", "none"), (tuned, digest)]
    bodies = [
        {"model": name, "messages": PARIS, "temperature": 0, "max_tokens": 12, "stream": streamed}
        for streamed in (False, True)
        for name, _ in asked
    ]
    with ThreadPoolExecutor(len(bodies)) as threads:
        answers = list(threads.map(lambda body: client.post(CHAT, json=body), bodies))
    assert [answer.headers["x-tunesmith-adapter"] for answer in answers] == [sha256 for _, sha256 in asked] * 2
    assert [answer.json()["choices"][0]["message"]["content"] == alone for answer in answers[:4]] == [True, False] * 2
    for name, expected in asked[:2]:
        for streamed in (False, True):
            body = {"model": name, "prompt": "The sea", "max_tokens": 1, "stream": streamed}
            assert client.post("/v1/completions", json=body).headers["x-tunesmith-adapter"] == expected


def test_a_deleted_model_is_gone(client: TestClient, tuned: str, refused: Refused) -> None:
    assert client.delete(f"/v1/models/{tuned}").status_code == 200
    for name in (tuned, "gpt-nonexistent"):
        error = refused(client.post(CHAT, json={"model": name, "messages": PARIS}), 404)
        assert error["message"] == f"The model '{name}' does not exist. GET /v1/models lists those that do."
        assert (error["param"], error["code"]) == ("model", "model_not_found")


def test_messages_beyond_the_context_are_refused_with_both_numbers(client: TestClient, refused: Refused) -> None:
    long = [{"role": "user", "content": "rain " * 9000}]
    for streamed in (False, True):
        body = {"model": "smollm2-135m-instruct", "messages": long, "stream": streamed}
        error = refused(client.post(CHAT, json=body))
        assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
        assert error["message"].startswith("This model's maximum context length is 8192 tokens. However, your messages")


def test_wrong_requests_name_what_is_wrong(client: TestClient, refused: Refused) -> None:
    body = {"model": "smollm2-135m-instruct", "messages": PARIS}
    assert refused(client.post(CHAT, content=b"{"))["message"].startswith("The request body is not valid JSON")
    assert refused(client.post(CHAT, json={**body, "temperature": 3}))["param"] == "temperature"
    assert refused(client.post(CHAT, json={**body, "logit_bias": {"99999": 1}}))["param"] == "logit_bias"
    assert refused(client.post(CHAT, json={**body, "messages": [{"role": "user"}]}))["param"] is not None
    impossible = {"type": "array", "uniqueItems": True}
    answered = {"type": "json_schema", "json_schema": {"name": "x", "schema": impossible}}
    error = refused(client.post(CHAT, json={**body, "response_format": answered}))
    assert (error["param"], error["code"]) == ("response_format.json_schema.schema", "invalid_json_schema")
    assert error["message"].startswith("Invalid schema for response_format 'x': 'uniqueItems' is supported only for")
    parameters = {"properties": {"a": impossible}}
    strict = {"type": "function", "function": {"name": "f", "strict": True, "parameters": parameters}}
    error = refused(client.post(CHAT, json={**body, "tools": [strict]}))
    assert (error["param"], error["code"]) == ("tools[0].function.parameters", "invalid_function_parameters")


def test_the_2023_path_names_the_model_in_the_url(client: TestClient) -> None:
    body = {"messages": PARIS, "temperature": 0, "max_tokens": 2}
    answer = client.post("/v1/engines/smollm2-135m-instruct/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == "The capital"


class ScriptedEngine:
    """Says what it is told to; stands in where a model would have to be trained to say it."""

    context_length, fingerprint = 8192, "scripted00"

    def __init__(self, renderer: Renderer, text: str, error: Exception | None = None) -> None:
        self.renderer, self.text, self.error = renderer, text, error

    def submit(self, request: GenerateRequest) -> Generation:
        generation = Generation(request.n)
        ids = self.renderer.encode(self.text)
        deltas = [Delta(0, token) for token in ids]
        if self.error is None:
            generation.put([*deltas, Delta(0, min(self.renderer.eos_ids), finish="stop")])
            generation.end()
        else:
            generation.put(deltas)
            generation.fail(self.error)
        return generation

    def close(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


@pytest.fixture
def scripted(settings: Settings, store: Store, key: str, renderer: Renderer) -> Callable[..., TestClient]:
    def make(text: str, error: Exception | None = None) -> TestClient:
        pool = Pool(settings, lambda base_dir, settings: ScriptedEngine(renderer, text, error))
        return TestClient(create_app(settings, store, pool), headers={"Authorization": f"Bearer {key}"})

    return make


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "武汉"}}\n</tool_call>'
FUNCTION = {"name": "get_weather", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]


def test_a_tool_call_is_answered_in_both_forms(scripted: Callable[..., TestClient], valid: Callable[..., None]) -> None:
    client = scripted(CALL)
    answer = ask(client, tools=TOOLS)
    valid("CreateChatCompletionResponse", answer)
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    (call,) = choice["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert (call["type"], call["function"]) == ("function", {"name": "get_weather", "arguments": '{"city": "武汉"}'})
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(client, tools=TOOLS)]
    first, *pieces = (delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta)
    assert list(first) == ["index", "id", "type", "function"]
    assert first["function"] == {"name": "get_weather", "arguments": ""}
    assert len(pieces) > 3, "arguments stream"
    assert all(list(piece) == ["index", "function"] and list(piece["function"]) == ["arguments"] for piece in pieces)
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"city": "武汉"}'


def test_functions_of_2023_are_answered_with_a_function_call(scripted: Callable[..., TestClient]) -> None:
    client = scripted(CALL)
    choice = ask(client, functions=[FUNCTION])["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city": "武汉"}'}
    assert "tool_calls" not in choice["message"]
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(client, functions=[FUNCTION])]
    first, *pieces = (delta["function_call"] for delta in deltas if "function_call" in delta)
    assert first == {"name": "get_weather", "arguments": ""}
    assert "".join(piece["arguments"] for piece in pieces) == '{"city": "武汉"}'


def test_one_call_at_a_time_when_parallel_calls_are_off(scripted: Callable[..., TestClient]) -> None:
    client = scripted(f"{CALL}\n{CALL}")
    counts = [
        len(ask(client, tools=TOOLS, parallel_tool_calls=parallel)["choices"][0]["message"]["tool_calls"])
        for parallel in (True, False)
    ]
    assert counts == [2, 1]


def test_a_fault_in_mid_stream_is_an_event_and_the_last_one(scripted: Callable[..., TestClient]) -> None:
    client = scripted("It was a dark", ServerFault("The engine broke."))
    text = client.post(CHAT, json={"model": "gpt-3.5-turbo", "messages": PARIS, "stream": True}).text
    last = json.loads(text.split("\n\n")[-2].removeprefix("data: "))
    assert last["error"]["message"] == "The engine broke."
    assert "[DONE]" not in text


def test_a_fault_before_the_first_token_is_an_ordinary_error(
    scripted: Callable[..., TestClient], refused: Refused
) -> None:
    client = scripted("", ServerFault("The engine broke."))
    for streamed in (False, True):
        body = {"model": "gpt-3.5-turbo", "messages": PARIS, "stream": streamed}
        assert refused(client.post(CHAT, json=body), 500)["message"] == "The engine broke."


class EndlessEngine(ScriptedEngine):
    """Never says a word; remembers what was asked."""

    def __init__(self, renderer: Renderer) -> None:
        super().__init__(renderer, "")
        self.generations: list[Generation] = []

    def submit(self, request: GenerateRequest) -> Generation:
        self.generations.append(Generation(request.n))
        return self.generations[-1]


@pytest.fixture
def endless(settings: Settings, store: Store, renderer: Renderer) -> Iterator[tuple[str, EndlessEngine]]:
    """(address of a real server, its engine)."""
    engine = EndlessEngine(renderer)
    with serving(create_app(settings, store, Pool(settings, lambda base_dir, settings: engine))) as address:
        yield address, engine


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of a real server."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_goes_away_ends_its_generation(
    endless: tuple[str, EndlessEngine], key: str, streamed: bool
) -> None:
    address, engine = endless
    body = {"model": "gpt-3.5-turbo", "messages": PARIS, "stream": streamed}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{address}{CHAT}", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(5, read=1)
        )
    deadline = time.monotonic() + 10
    while not any(generation.closed for generation in engine.generations):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_api_answers_while_a_model_writes(
    settings: Settings, store: Store, key: str, pool: Pool, base_dir: Path
) -> None:
    pool.open(base_dir)
    with serving(create_app(settings, store, pool)) as address, httpx.Client(base_url=address, timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        body = {"model": "gpt-3.5-turbo", "messages": PARIS, "stream": True, "logit_bias": {"0": -100, "2": -100}}
        with client.stream("POST", CHAT, json=body) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: {")
            for _ in range(5):
                started = time.monotonic()
                assert httpx.get(f"{address}/healthz").status_code == 200
                assert time.monotonic() - started < 2
            assert next(line for line in lines if line).startswith("data: {")


class City(BaseModel):
    city: Literal["Paris", "Rome"]


def test_the_official_client_streams_counts_and_parses(app: FastAPI, key: str) -> None:
    with TestClient(app) as transport:
        client = openai.OpenAI(api_key=key, base_url="http://testserver/v1", http_client=transport, max_retries=0)
        chunks = list(
            client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "What is the capital of France?"}],
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).endswith("Paris.")
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 7
        parsed = client.chat.completions.parse(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            response_format=City,
        )
        assert parsed.choices[0].message.parsed == City(city="Paris")
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "Hi"}])
        assert caught.value.code == "model_not_found"
