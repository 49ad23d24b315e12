"""Completions kept by `store: true`, on the wire."""

import json
from dataclasses import replace

import pytest
from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient
from tests.api.conftest import Ask, Json, Refused, Valid

from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import ChatRow, Store

CHAT = "/v1/chat/completions"
HELLO: list[Json] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
]
ROW = ChatRow("chatcmpl-0", "base", "base", 5, {"object": "chat.completion", "id": "chatcmpl-0"}, (), {}, "default")


@pytest.fixture
def app(settings: Settings, store: Store, pool: Pool) -> FastAPI:
    from tunesmith.api.app import create_app

    return create_app(settings, store, pool)


@pytest.fixture
def ask(client: TestClient) -> Ask:
    def send(**fields: object) -> Response:
        body = {"model": "gpt-4o-mini", "messages": HELLO, "temperature": 0, "max_tokens": 3, "store": True, **fields}
        return client.post(CHAT, json=body)

    return send


def test_kept_completion_is_the_answer_and_what_was_asked(client: TestClient, ask: Ask, valid: Valid) -> None:
    answer = ask(metadata={"team": "a"}, user="me", seed=3)
    kept = client.get(f"{CHAT}/{answer.json()['id']}").json()
    valid("CreateChatCompletionResponse", kept)
    assert {key: kept[key] for key in answer.json()} == answer.json()
    assert kept["request_id"] == answer.headers["x-request-id"]
    assert (kept["metadata"], kept["input_user"], kept["seed"]) == ({"team": "a"}, "me", 3)
    assert (kept["temperature"], kept["top_p"], kept["tools"], kept["response_format"]) == (0, 1.0, None, None)


def test_stream_is_kept_once_it_is_whole(client: TestClient, ask: Ask) -> None:
    text = ask(stream=True, n=2).text
    assert text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    kept = client.get(f"{CHAT}/{chunks[0]['id']}").json()
    for choice in kept["choices"]:
        deltas = [one["delta"] for chunk in chunks for one in chunk["choices"] if one["index"] == choice["index"]]
        assert choice["message"]["content"] == "".join(delta.get("content", "") for delta in deltas)
        assert choice["finish_reason"] == "length"
    assert kept["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize("given", [False, None])
def test_nothing_is_kept_that_was_not_asked_to_be(client: TestClient, ask: Ask, given: bool | None) -> None:
    assert ask(store=given, metadata={"k": 7}).status_code == 200
    assert client.get(CHAT).json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": "yes"}, "store"),
        ({"metadata": {"k": 7}}, "metadata.k"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_it_is_answered(
    client: TestClient, ask: Ask, refused: Refused, fields: JsonObject, param: str
) -> None:
    assert refused(ask(**fields))["param"] == param
    assert client.get(CHAT).json()["data"] == []


def test_messages_have_ids_and_pages(client: TestClient, ask: Ask, valid: Valid) -> None:
    chat_id = ask().json()["id"]
    page = client.get(f"{CHAT}/{chat_id}/messages").json()
    first, second = page["data"]
    assert (first["id"], first["role"], first["content"]) == (f"{chat_id}-0", "system", "Be brief.")
    assert (second["id"], second["content"], second["content_parts"]) == (f"{chat_id}-1", None, HELLO[1]["content"])
    assert (page["first_id"], page["last_id"], page["has_more"]) == (first["id"], second["id"], False)
    url = f"{CHAT}/{chat_id}/messages"
    assert client.get(url, params={"limit": 1, "order": "desc"}).json()["data"] == [second]
    assert client.get(url, params={"after": first["id"]}).json()["data"] == [second]
    assert client.get(url, params={"after": "nothing"}).json()["data"] == []


def test_list_is_filtered_and_paged(client: TestClient, store: Store, valid: Valid) -> None:
    for number in range(3):
        row = replace(ROW, id=f"chatcmpl-{number}", model=f"m{number}", metadata={"even": str(number % 2 == 0)})
        store.chats.add(replace(row, body={"id": row.id}))

    def ids(**query: str) -> list[str]:
        return [one["id"][-1] for one in client.get(CHAT, params=query).json()["data"]]

    assert ids() == ["2", "1", "0"]
    assert ids(order="asc", after="chatcmpl-0") == ["1", "2"]
    assert ids(model="m1") == ["1"]
    assert ids(**{"metadata[even]": "True"}) == ["2", "0"]
    page = client.get(CHAT, params={"limit": 1}).json()
    assert (page["first_id"], page["has_more"]) == ("chatcmpl-2", True)


def test_metadata_is_changed_and_the_completion_deleted(client: TestClient, store: Store, valid: Valid) -> None:
    store.chats.add(ROW)
    assert client.post(f"{CHAT}/{ROW.id}", json={"metadata": {"k": "v"}}).json()["metadata"] == {"k": "v"}
    assert client.post(f"{CHAT}/{ROW.id}", json={"metadata": None}).json()["metadata"] == {}
    gone = client.delete(f"{CHAT}/{ROW.id}").json()
    valid("ChatCompletionDeleted", gone)
    assert gone == {"object": "chat.completion.deleted", "id": ROW.id, "deleted": True}


def test_unknown_completion_is_404(client: TestClient, refused: Refused) -> None:
    for answer in (
        client.get(f"{CHAT}/x"),
        client.get(f"{CHAT}/x/messages"),
        client.delete(f"{CHAT}/x"),
        client.post(f"{CHAT}/x", json={"metadata": {}}),
    ):
        error = refused(answer, 404)
        assert (error["message"], error["param"], error["code"]) == (
            "Completion x not found",
            "completion_id",
            "not_found",
        )


def test_change_without_metadata_is_refused(client: TestClient, store: Store, refused: Refused) -> None:
    store.chats.add(ROW)
    assert refused(client.post(f"{CHAT}/{ROW.id}", json={}))["param"] == "metadata"
    assert refused(client.post(f"{CHAT}/{ROW.id}", json={"model": "x", "metadata": {}}))["param"] == "model"
