"""Limits of a project: the arithmetic with a clock of the test's own, and the 429 over HTTP."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from tests.api.conftest import Refused

from tunesmith.api.app import create_app
from tunesmith.api.http.rules import Rule
from tunesmith.api.middleware.metering import Metered
from tunesmith.api.middleware.rate_limits import Admission, Project, RateLimits
from tunesmith.api.middleware.token_bucket import TokenBucket, shown
from tunesmith.errors import RateLimited
from tunesmith.serve.chat.answer import Usage
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Key:
    project = "default"


class Spent:
    usage = Usage(60, 40)


def test_budget_is_full_at_first_and_fills_up_evenly() -> None:
    bucket = TokenBucket(60, 0.0)
    assert (bucket.remaining(0), bucket.wait(60, 0), bucket.reset(0)) == (60, 0, 0)
    bucket.spend(60, 0)
    assert (bucket.remaining(0), bucket.wait(1, 0), bucket.reset(0)) == (0, 1, 60)
    assert (bucket.remaining(10.5), bucket.wait(12, 10.5)) == (10, 1.5)
    assert bucket.remaining(1000) == 60


def test_debt_is_waited_off_and_what_was_not_used_comes_back() -> None:
    bucket = TokenBucket(60, 0.0)
    bucket.spend(90, 0)
    assert (bucket.remaining(0), bucket.wait(1, 0), bucket.wait(1, 31)) == (0, 31, 0)
    bucket.spend(-500, 0)
    assert bucket.remaining(0) == 60


def test_more_than_the_whole_budget_waits_for_a_full_one_only() -> None:
    bucket = TokenBucket(60, 0.0)
    assert bucket.wait(1000, 0) == 0
    bucket.spend(30, 0)
    assert bucket.wait(1000, 0) == 30


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.0015, "2ms"), (1, "1s"), (1.2, "2s"), (59.1, "1m0s"), (360, "6m0s")]
)
def test_times_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert shown(seconds) == text


@pytest.fixture
def limited(settings: Settings, store: Store, key: str) -> Callable[..., TestClient]:
    def make(**limits: int) -> TestClient:
        limited = settings.model_copy(update=limits)
        return TestClient(create_app(limited, store, Pool(limited)), headers={"Authorization": f"Bearer {key}"})

    return make


def test_request_over_the_limit_is_429_with_the_time_to_wait(
    limited: Callable[..., TestClient], store: Store, refused: Refused
) -> None:
    client = limited(limit_requests_per_minute=2)
    answers = [client.post("/v1/moderations", json={"input": "Hi"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"2"}
    assert answers[1].headers["x-ratelimit-reset-requests"] == "1m0s"
    error = refused(answers[2], 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "requests per min: Limit 2, Remaining 0, Requested 1. Please try again in 30s." in error["message"]
    assert "limit_requests_per_minute" in error["message"]
    assert answers[2].headers["retry-after"] == "30"
    assert 29_000 < int(answers[2].headers["retry-after-ms"]) <= 30_000
    other = store.keys.create("other", project=store.projects.create("other").id)[0]
    theirs = client.post("/v1/moderations", json={"input": "Hi"}, headers={"Authorization": f"Bearer {other}"})
    assert theirs.status_code == 200
    assert client.get("/v1/models").status_code == 200


def test_uploads_have_a_limit_of_their_own(limited: Callable[..., TestClient], refused: Refused) -> None:
    client = limited(limit_uploads_per_minute=1)
    send: dict[str, Any] = {"data": {"purpose": "fine-tune"}, "files": {"file": ("a.jsonl", b"{}\n")}}
    assert client.post("/v1/files", **send).status_code == 200
    assert "uploads per min" in refused(client.post("/v1/files", **send), 429)["message"]
    assert client.get("/v1/files").status_code == 200


def test_without_limits_there_are_no_headers_of_them(client: TestClient) -> None:
    headers = client.post("/v1/moderations", json={"input": "Hi"}).headers
    assert not [name for name in headers if name.startswith("x-ratelimit")]


def chat_scope(headers: list[tuple[bytes, bytes]]) -> Scope:
    state = {"key": Key(), "rule": Rule("read-only", "model")}
    return {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "state": state}


async def nothing_comes() -> Message:
    raise AssertionError("the body is not read here")


def ask(throttle: RateLimits, *, body_bytes: int = 40) -> tuple[int, dict[str, str]]:
    """Status and headers of one chat request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def call() -> None:
        headers = [(b"content-length", str(body_bytes).encode())]
        await throttle(chat_scope(headers), nothing_comes, send)

    asyncio.run(call())
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def model(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with a hundred tokens."""
    scope["state"]["metered"] = Metered("base", Spent())
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_tokens_are_charged_as_they_were_used_and_waited_for(settings: Settings) -> None:
    clock = Clock()
    throttle = RateLimits(model, settings.model_copy(update={"limit_tokens_per_minute": 120}), clock)
    status, headers = ask(throttle)
    assert (status, headers["x-ratelimit-remaining-tokens"]) == (200, "110")  # the estimate: 40 bytes
    status, headers = ask(throttle)  # 20 are left, its estimate fits, its 100 tokens do not
    assert (status, headers["x-ratelimit-remaining-tokens"]) == (200, "10")
    status, headers = ask(throttle)  # 80 in debt: 10 are there in 45 seconds
    assert (status, headers["retry-after"], headers["x-ratelimit-remaining-tokens"]) == (429, "45", "0")
    clock.now += 45
    assert ask(throttle)[0] == 200


def test_refused_request_costs_neither_request_nor_tokens(settings: Settings) -> None:
    clock = Clock()
    limits = {"limit_tokens_per_minute": 100, "limit_requests_per_minute": 3}
    throttle = RateLimits(model, settings.model_copy(update=limits), clock)
    assert ask(throttle)[0] == 200
    for _ in range(5):
        status, headers = ask(throttle)
        assert (status, headers["x-ratelimit-remaining-requests"]) == (429, "2")


def test_failed_request_gets_its_tokens_back_and_frees_its_place(settings: Settings) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError

    limits = {"limit_tokens_per_minute": 100, "limit_concurrent_requests": 1}
    throttle = RateLimits(broken, settings.model_copy(update=limits), Clock())
    for _ in range(3):
        with pytest.raises(ValueError):
            ask(throttle, body_bytes=400)
    throttle.app = model
    assert ask(throttle)[0] == 200


def test_requests_at_a_time_are_limited(settings: Settings) -> None:
    async def run() -> list[int]:
        started, go = asyncio.Event(), asyncio.Event()
        statuses: list[int] = []

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            await go.wait()
            await model(scope, receive, send)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        throttle = RateLimits(slow, settings.model_copy(update={"limit_concurrent_requests": 1}), Clock())

        def call() -> Coroutine[None, None, None]:
            return throttle(chat_scope([]), nothing_comes, send)

        first = asyncio.create_task(call())
        await started.wait()
        await call()
        go.set()
        await first
        await call()
        return statuses

    assert asyncio.run(run()) == [429, 200, 200]


CHAT = {"model": "none", "messages": [{"role": "user", "content": "?"}]}
MANY = [
    ("/v1/chat/completions", {**CHAT, "n": 5}),
    ("/v1/completions", {"model": "none", "prompt": ["a", "b", "c"], "n": 2}),
    ("/v1/completions", {"model": "none", "prompt": [[1], [2]], "n": 1, "best_of": 3}),
    ("/v1/engines/none/completions", {"prompt": ["a"] * 5}),
]


@pytest.mark.parametrize(("path", "body"), MANY, ids=["n", "prompts", "best_of", "engines"])
def test_a_request_counts_as_often_as_the_answers_it_asks_for(
    limited: Callable[..., TestClient], path: str, body: dict[str, object]
) -> None:
    client = limited(limit_concurrent_requests=4, limit_requests_per_minute=10)
    refused = client.post(path, json=body)
    assert refused.status_code == 400
    assert "a project may have 4 (limit_concurrent_requests)" in refused.json()["error"]["message"]
    few = client.post("/v1/chat/completions", json={**CHAT, "n": 4})
    assert few.status_code == 404  # there is no such model; it was admitted
    last = client.post("/v1/chat/completions", json=CHAT)
    assert last.headers["x-ratelimit-remaining-requests"] == "4"  # of 10: the refused one, four, and this one


def test_answers_under_way_count_against_what_may_run_at_a_time() -> None:
    project = Project(None, None, None, running=1)
    first = Admission(project, 4, Clock())
    first.count(3, "n")
    project.running += 1
    second = Admission(project, 4, Clock())
    with pytest.raises(RateLimited, match="3 answers are under way and 2 were asked for, at most 4"):
        second.count(2, "n")
    assert (project.running, second.counted) == (4, 1)
