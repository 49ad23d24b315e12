"""Chat over HTTP where a vLLM server generates: the real application and engine, a stand-in for the server."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import structlog
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused, Upload
from tests.fake_vllm import BASE, FakeVllm, running
from tests.servers import wait_until

from tunesmith.api.app import create_app
from tunesmith.render.renderer import Renderer
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

BODY = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "How is the weather?"}], "temperature": 0}


@pytest.fixture
def fake(renderer: Renderer) -> Iterator[FakeVllm]:
    fake = FakeVllm()
    fake.answers[BASE] = [*renderer.encode("Cloudy ☁ with puns."), min(renderer.eos_ids)]
    with running(fake) as server:
        yield server


@pytest.fixture
def settings(settings: Settings, fake: FakeVllm) -> Settings:
    return settings.model_copy(update={"serve_remote": {BASE: [fake.url]}})


@pytest.fixture
def app(settings: Settings, store: Store) -> Iterator[FastAPI]:
    pool = Pool(settings)
    yield create_app(settings, store, pool)
    pool.close()


@pytest.fixture
def tuned_at_vllm(tuned: str, store: Store, fake: FakeVllm) -> str:
    """A tuned model that answers as its base; its name."""
    model = store.models.get(tuned)
    assert model is not None
    fake.answers[str(model.adapter_dir)] = fake.answers[BASE]
    return tuned


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What goes to the log."""
    text = io.StringIO()
    before = structlog.get_config()["logger_factory"]
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(text))
    yield text
    structlog.configure(logger_factory=before)


def test_chat_is_answered_by_vllm(client: TestClient, fake: FakeVllm, renderer: Renderer) -> None:
    answer = client.post("/v1/chat/completions", json=BODY | {"n": 2, "logprobs": True}).json()
    assert answer["model"] == BASE
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["Cloudy ☁ with puns."] * 2
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"stop"}
    assert len(answer["choices"][0]["logprobs"]["content"]) == len(fake.answers[BASE]) - 1
    assert answer["usage"]["prompt_tokens"] == len(fake.bodies[0]["prompt"])
    assert "user\nHow is the weather?\nassistant\n" in renderer.decode(fake.bodies[0]["prompt"])


def test_a_fault_of_vllm_is_an_ordinary_error_answer(client: TestClient, fake: FakeVllm) -> None:
    fake.refusal = (503, "too many")
    answer = client.post("/v1/chat/completions", json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "remote_is_busy")


SCHEMA = {"type": "object", "properties": {"rain": {"type": "boolean"}}, "required": ["rain"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {**SCHEMA, "additionalProperties": False}}}


def test_answer_is_held_to_a_schema_by_vllm(client: TestClient, fake: FakeVllm, renderer: Renderer) -> None:
    text = '{"rain":\n  true}'
    fake.answers[BASE] = [*renderer.encode(text), min(renderer.eos_ids)]
    answer = client.post("/v1/chat/completions", json=BODY | {"response_format": FORMAT}).json()
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")
    grammar = fake.bodies[-1]["structured_outputs"]["grammar"]
    assert grammar.startswith("start: answer\nanswer: %json {")
    assert '"required":["rain"]' in grammar
    assert "json_allow_general_unicode_escapes" not in grammar
    assert '"whitespace_flexible":false' in grammar


@pytest.mark.parametrize("strict", [False, True])
def test_forced_and_strict_tools_are_held_by_vllm(
    client: TestClient, fake: FakeVllm, renderer: Renderer, strict: bool
) -> None:
    call = '<tool_call>\n{"name": "look", "arguments": {"rain": true}}\n</tool_call>'
    fake.answers[BASE] = [*renderer.encode(call), min(renderer.eos_ids)]
    parameters = {**SCHEMA, "additionalProperties": False} if strict else SCHEMA
    tool = {"type": "function", "function": {"name": "look", "parameters": parameters, "strict": strict}}
    body = BODY | {"tools": [tool], "tool_choice": "auto" if strict else "required"}
    choice = client.post("/v1/chat/completions", json=body).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"rain": True}
    assert '"look' in fake.bodies[-1]["structured_outputs"]["grammar"]


def test_answer_that_does_not_follow_its_grammar_is_never_passed_on(client: TestClient) -> None:
    """Of a server so old that it ignores the key."""
    answer = client.post("/v1/chat/completions", json=BODY | {"response_format": FORMAT})
    assert answer.status_code == 500
    assert "could not be held to its grammar" in answer.json()["error"]["message"]


def test_prompt_is_scored_by_vllm(client: TestClient, fake: FakeVllm) -> None:
    body = {"model": BASE, "prompt": [5, 7, 8], "echo": True, "logprobs": 1, "max_tokens": 0}
    answer = client.post("/v1/completions", json=body).json()
    assert answer["choices"][0]["logprobs"]["token_logprobs"] == [None, -0.7, -0.8]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3} | {
        key: value for key, value in answer["usage"].items() if key.endswith("details")
    }
    more = client.post("/v1/completions", json=body | {"max_tokens": 2}).json()["choices"][0]["logprobs"]
    first, second = fake.answers[BASE][:2]
    assert more["token_logprobs"] == [None, -0.7, -0.8, -first / 10, -second / 10]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a server, and the code that a request then gets."""

    code: str
    spoil: Callable[[FakeVllm], None]
    asked: dict[str, object] = field(default_factory=dict)
    tuned: bool = False  # the request is to the tuned model


def refusing(status: int) -> Callable[[FakeVllm], None]:
    def spoil(fake: FakeVllm) -> None:
        fake.refusal = (status, f"a reason at {fake.url} /secret/place")

    return spoil


def ending(how: str) -> Callable[[FakeVllm], None]:
    def spoil(fake: FakeVllm) -> None:
        fake.ending, fake.answers[BASE] = how, fake.answers[BASE][:2]

    return spoil


def having(**values: object) -> Callable[[FakeVllm], None]:
    def spoil(fake: FakeVllm) -> None:
        for name, value in values.items():
            setattr(fake, name, value)

    return spoil


FAULTS = {
    "base gone": Fault("remote_misplaced", refusing(404)),
    "refused": Fault("remote_refused", refusing(400)),
    "wrong key": Fault("remote_misplaced", refusing(401)),
    "busy": Fault("remote_is_busy", refusing(429)),
    "failed": Fault("remote_failed", refusing(500)),
    "wrong key at the start": Fault("remote_misplaced", having(key="another")),
    "no grammars": Fault("remote_refused_grammar", having(grammars=False), {"response_format": FORMAT}),
    "rank": Fault("remote_refused_adapter", having(max_rank=4), tuned=True),
    "no files": Fault("remote_refused_adapter", having(answers={BASE: [1]}), tuned=True),
    "killed": Fault("remote_broke_off", ending("broken")),
    "cut off": Fault("remote_broke_off", ending("silent")),
    "died": Fault("remote_failed", ending("error")),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_caller_reads_the_servers_address_its_paths_or_its_words(
    client: TestClient,
    fake: FakeVllm,
    tuned_at_vllm: str,
    fault: Fault,
    streamed: bool,
    logged: io.StringIO,
) -> None:
    asked, code = fault.asked, fault.code
    if fault.tuned:
        asked = {"model": tuned_at_vllm}
    fault.spoil(fake)
    answer = client.post("/v1/chat/completions", json=BODY | asked | {"stream": streamed})
    assert f'"code":"{code}"' in answer.text
    for secret in (fake.url.removeprefix("http://"), "/final", "/jobs", "a reason", "/secret", "EngineCore", "lark"):
        assert secret not in answer.text
    assert fake.url in logged.getvalue()


def test_while_no_server_can_be_reached_callers_are_told_when_to_ask_again(
    client: TestClient, fake: FakeVllm, refused: Refused
) -> None:
    assert client.post("/v1/chat/completions", json=BODY).status_code == 200
    fake.stop()
    wait_until(lambda: client.post("/v1/chat/completions", json=BODY).status_code == 503, 10, "the server's end")
    for body in (BODY, BODY | {"stream": True}):
        answer = client.post("/v1/chat/completions", json=body)
        error = refused(answer, 503)
        assert error["code"] == "remote_unreachable"
        assert error["message"].endswith(f"Ask again in {answer.headers['retry-after']} s.")
        assert int(answer.headers["retry-after"]) >= 1


def test_rank_that_vllm_would_not_take_is_refused_before_training(
    client: TestClient, upload: Upload, refused: Refused
) -> None:
    body = {"model": BASE, "training_file": upload()["id"]}
    error = refused(client.post("/v1/fine_tuning/jobs", json=body | {"tunesmith": {"lora_rank": 17}}))
    assert (error["param"], error["code"]) == ("tunesmith.lora_rank", "rank_too_high")
    assert error["message"] == (
        f"The adapter's rank would be 17, but the vLLM server that answers for {BASE} takes at most 16: the model would"
        " be trained and never answer. Set lora_rank to 16 or less; or have the server started with --max-lora-rank 32"
        " and the setting serve_remote_max_rank set to 32."
    )
    for options in ({"lora_rank": 16}, {"adapter": "none"}):
        job = client.post("/v1/fine_tuning/jobs", json=body | {"tunesmith": options})
        assert job.status_code == 200, job.text


def test_rank_may_be_what_the_setting_says(client: TestClient, app: FastAPI, upload: Upload) -> None:
    higher = app.state.parts.settings.model_copy(update={"serve_remote_max_rank": 64})
    app.state.parts = replace(app.state.parts, settings=higher)
    body = {"model": BASE, "training_file": upload()["id"], "tunesmith": {"lora_rank": 64}}
    assert client.post("/v1/fine_tuning/jobs", json=body).status_code == 200
