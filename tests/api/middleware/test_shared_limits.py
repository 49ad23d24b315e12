"""Limits over two servers on one PostgreSQL: the real middleware of each, with a store of its own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from tests.databases import Migrated

from tunesmith.api.app import create_app
from tunesmith.api.http.rules import Rule
from tunesmith.api.middleware.metering import Metered
from tunesmith.api.middleware.rate_limits import Admission, RateLimits
from tunesmith.serve.chat.answer import Usage
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store


@pytest.fixture
def stores(postgres_url: str, tmp_path: Path, migrated: Migrated) -> Iterator[tuple[Store, Store]]:
    first = migrated(Settings(data_dir=tmp_path / "a", database_url=postgres_url))
    opened = open_store(first), open_store(first.model_copy(update={"data_dir": tmp_path / "b"}))
    yield opened
    for one in opened:
        one.close()


class Key:
    project = "default"


class Spent:
    usage = Usage(60, 40)


def of_both(stores: tuple[Store, Store], app: object, **limits: int) -> list[RateLimits]:
    settings = Settings().model_copy(update=limits)
    return [RateLimits(app, settings, shared=store.limits) for store in stores]  # type: ignore[arg-type]


async def ask(limits: RateLimits, body_bytes: int = 40) -> tuple[int, dict[str, str]]:
    """Status and headers of one chat request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("the body is not read here")

    state = {"key": Key(), "rule": Rule("read-only", "model")}
    headers = [(b"content-length", str(body_bytes).encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "state": state}
    await limits(scope, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def told(*limits: RateLimits) -> None:
    """Returns when the database knows what these servers' requests have used."""
    for one in limits:
        assert one.counter is not None
        await asyncio.gather(*one.counter._tasks)


async def model(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with a hundred tokens."""
    scope["state"]["metered"] = Metered("base", Spent())
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_two_servers_have_one_limit(stores: tuple[Store, Store]) -> None:
    key = stores[0].keys.create("tests")[0]
    settings = Settings(limit_requests_per_minute=3, limit_uploads_per_minute=1)
    clients = [
        TestClient(create_app(settings, store, Pool(settings)), headers={"Authorization": f"Bearer {key}"})
        for store in stores
    ]
    answers = [clients[number % 2].post("/v1/moderations", json={"input": "Hi"}) for number in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].json()["error"]["code"] == "rate_limit_exceeded"
    assert "requests per min: Limit 3, Remaining 0, Requested 1" in answers[3].json()["error"]["message"]
    assert 18 <= int(answers[3].headers["retry-after"]) <= 20
    sent = [
        client.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a", b"a")}).status_code
        for client in clients
    ]
    assert sent == [200, 429]


def test_tokens_that_one_server_has_used_are_gone_at_the_other(stores: tuple[Store, Store]) -> None:
    async def run() -> tuple[int, dict[str, str]]:
        one, other = of_both(stores, model, limit_tokens_per_minute=120)
        assert (await ask(one))[0] == 200
        await told(one)
        return await ask(other, body_bytes=4 * 60)  # 20 are left

    status, headers = asyncio.run(run())
    assert (status, headers["x-ratelimit-limit-tokens"]) == (429, "120")


def test_answers_under_way_are_counted_over_both_servers(stores: tuple[Store, Store]) -> None:
    async def run() -> list[int]:
        begun, go = asyncio.Event(), asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            admission: Admission = scope["state"]["admission"]
            admission.count(2, "n")
            begun.set()
            await go.wait()
            await model(scope, receive, send)

        one, other = of_both(stores, slow, limit_concurrent_requests=2)
        first = asyncio.create_task(ask(one))
        await begun.wait()
        await told(one)
        refused = (await ask(other))[0]
        go.set()
        statuses = [refused, (await first)[0]]
        await told(one)
        statuses.append((await ask(other))[0])
        await told(one, other)
        return statuses

    assert asyncio.run(run()) == [429, 200, 200]


def test_a_key_that_one_server_revokes_opens_nothing_at_the_other(stores: tuple[Store, Store]) -> None:
    settings = Settings()
    raw, key = stores[0].keys.create("tests")
    clients = [TestClient(create_app(settings, store, Pool(settings))) for store in stores]
    auth = {"Authorization": f"Bearer {raw}"}
    assert [client.get("/v1/models", headers=auth).status_code for client in clients] == [200, 200]
    assert stores[1].keys.revoke(key.id)
    assert [client.get("/v1/models", headers=auth).status_code for client in clients] == [401, 401]


def test_one_idempotency_key_at_two_servers_at_once_makes_one_object(stores: tuple[Store, Store]) -> None:
    key = stores[0].keys.create("tests")[0]
    settings = Settings()
    apps = [create_app(settings, store, Pool(settings)) for store in stores]
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "once"}
    body = {"filename": "a", "purpose": "user_data", "bytes": 3, "mime_type": "text/plain"}

    clients = [TestClient(app, headers=headers) for app in apps]
    for client in clients:  # an application makes its routes at its first request, which one event loop does
        assert client.get("/v1/models").status_code == 200

    async def both() -> list[object]:
        calls = [asyncio.to_thread(lambda one: one.post("/v1/uploads", json=body).json(), one) for one in clients * 8]
        answers: list[object] = await asyncio.gather(*calls)
        return answers

    found = asyncio.run(both())
    assert all(one == found[0] for one in found)
    assert stores[0].of("default").uploads.pending_bytes() == 3
