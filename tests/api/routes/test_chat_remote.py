"""Chat over HTTP where a vLLM server generates: the real application and engine, a stand-in for the server."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from tests.fake_vllm import BASE, FakeVllm, running

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
def client(settings: Settings, store: Store, key: str, fake: FakeVllm) -> Iterator[TestClient]:
    settings = settings.model_copy(update={"serve_remote": {BASE: fake.url}})
    pool = Pool(settings)
    with TestClient(create_app(settings, store, pool), headers={"Authorization": f"Bearer {key}"}) as client:
        yield client
    pool.close()


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
