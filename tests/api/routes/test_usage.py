"""Usage over HTTP: what a request took is counted once, after its last byte, and shown in OpenAI's shape."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from openai.types.admin.organization.usage_completions_response import UsageCompletionsResponse
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, key_row

from tunesmith.api.app import create_app
from tunesmith.api.middleware.metering import Metered, UsageRecorder
from tunesmith.errors import ServiceUnavailable
from tunesmith.serve.chat.answer import Usage
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.accounts.usage import Account
from tunesmith.store.rows import Counts

USAGE = "/v1/organization/usage/completions"
DAY = 86_400
NINE = 20_000 * DAY + 9 * 3600


@dataclass(frozen=True, slots=True)
class Spent:
    usage: Usage


@pytest.fixture
def app(settings: Settings, store: Store, pool: Pool, base_dir: Path) -> FastAPI:
    return create_app(settings, store, pool)


def ever(client: TestClient, **params: object) -> list[Json]:
    """The one bucket of today, whose results are grouped."""
    query: Json = {"start_time": int(time.time()), "group_by": ["project_id", "api_key_id", "model"], **params}
    answer = client.get(USAGE, params=query)
    assert answer.status_code == 200, answer.text
    results: list[Json] = answer.json()["data"][0]["results"]
    return results


def test_plain_streamed_and_old_requests_are_counted_under_their_key(
    client: TestClient, store: Store, key: str
) -> None:
    body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    plain = client.post("/v1/chat/completions", json=body).json()["usage"]
    assert client.post("/v1/chat/completions", json={**body, "stream": True}).text.endswith("[DONE]\n\n")
    old = client.post("/v1/completions", json={"model": "gpt-3.5-turbo", "prompt": ["Hi", "Yes"], "max_tokens": 2})
    client.post("/v1/chat/completions", json={**body, "model": "nobody"})
    (row,) = ever(client, start_time=int(time.time()) - 60)
    assert (row["project_id"], row["model"]) == ("default", "smollm2-135m-instruct")
    assert row["api_key_id"] == key_row(store, key).id
    assert row["num_model_requests"] == 3
    assert row["input_tokens"] == 2 * plain["prompt_tokens"] + old.json()["usage"]["prompt_tokens"]
    most = 2 * plain["completion_tokens"] + old.json()["usage"]["completion_tokens"]
    assert plain["completion_tokens"] <= row["output_tokens"] <= most + 3
    assert key_row(store, key).last_used_at == pytest.approx(time.time(), abs=10)


def test_owner_acting_in_a_project_is_counted_there(client: TestClient, store: Store) -> None:
    other = store.projects.create("other").id
    body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    assert client.post("/v1/chat/completions", json=body, headers={"OpenAI-Project": other}).status_code == 200
    assert [row["project_id"] for row in ever(client, start_time=int(time.time()) - 60)] == [other]


def test_clean_stop_writes_what_was_counted(app: FastAPI, store: Store, key: str, settings: Settings) -> None:
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        client.post("/v1/chat/completions", json=body)
    (row,) = store.usage.sums(0, 10**11, DAY)
    assert row.counts.requests == 1


def test_counts_wait_for_a_database_that_does_not_answer(store: Store, key: str) -> None:
    recorder, row = UsageRecorder(store), key_row(store, key)
    recorder.record(row, Metered("base", Spent(Usage(10, 5, 4))))
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE usage RENAME TO gone")
    with pytest.raises(ServiceUnavailable):
        recorder.flush()
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO usage")
    recorder.record(row, Metered("base", Spent(Usage(1, 1))))
    recorder.stop()
    (found,) = store.usage.sums(0, 10**11, DAY)
    assert found.counts == Counts(2, 11, 4, 6)


@pytest.fixture
def history(store: Store) -> None:
    store.usage.add(
        {
            Account(NINE, "default", "key_a", "base"): Counts(1, 10, 4, 5),
            Account(NINE + 60, "other", "key_b", "ft:x"): Counts(2, 20, 0, 6),
            Account(NINE + DAY, "other", "key_b", "base"): Counts(trained_tokens=6810),
        },
        {},
    )


def test_answer_has_openais_shape_with_empty_buckets(client: TestClient, history: None) -> None:
    answer = client.get(USAGE, params={"start_time": NINE, "end_time": NINE + 3 * DAY}).json()
    UsageCompletionsResponse.model_validate(answer, strict=True)
    assert [bucket["start_time"] for bucket in answer["data"]] == [20_000 * DAY + n * DAY for n in range(4)]
    assert [len(bucket["results"]) for bucket in answer["data"]] == [1, 1, 0, 0]
    first, second = answer["data"][0]["results"][0], answer["data"][1]["results"][0]
    assert (first["num_model_requests"], first["input_tokens"], first["input_cached_tokens"]) == (3, 30, 4)
    assert (first["project_id"], first["api_key_id"], first["model"]) == (None, None, None)
    assert second["tunesmith"] == {"trained_tokens": 6810}


def test_pages_join_to_the_whole(client: TestClient, history: None) -> None:
    query: Json = {"start_time": NINE, "end_time": NINE + 5 * 60, "bucket_width": "1m", "limit": 2}
    seen: list[Json] = []
    page = None
    while True:
        answer = client.get(USAGE, params={**query, **({"page": page} if page else {})}).json()
        seen += answer["data"]
        page = answer["next_page"]
        if not answer["has_more"]:
            break
    assert page is None
    assert [bucket["start_time"] - NINE for bucket in seen] == [0, 60, 120, 180, 240]
    assert [len(bucket["results"]) for bucket in seen] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("brackets", ["", "[]"])
def test_lists_of_values_as_any_client_sends_them(client: TestClient, history: None, brackets: str) -> None:
    query: Json = {"start_time": NINE, "end_time": NINE + DAY, f"group_by{brackets}": ["model", "user_id"]}
    query[f"models{brackets}"] = ["base", "ft:x"]
    query[f"api_key_ids{brackets}"] = ["key_b"]
    (row,) = client.get(USAGE, params=query).json()["data"][0]["results"]
    assert (row["model"], row["api_key_id"], row["num_model_requests"]) == ("ft:x", None, 2)
    query[f"project_ids{brackets}"] = ["default"]
    assert client.get(USAGE, params=query).json()["data"][0]["results"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "start_time"),
        ({"start_time": NINE, "end_time": NINE}, "end_time"),
        ({"start_time": NINE, "bucket_width": "1w"}, "bucket_width"),
        ({"start_time": NINE, "limit": 32}, "limit"),
        ({"start_time": NINE, "group_by": "colour"}, "group_by"),
        ({"start_time": NINE, "page": "page_7"}, "page"),
        ({"start_time": NINE, "user_ids": "user_1"}, "user_ids"),
    ],
)
def test_wrong_query_is_named(client: TestClient, refused: Refused, query: Json, param: str) -> None:
    assert refused(client.get(USAGE, params=query))["param"] == param
