"""A POST that is sent twice: with an Idempotency-Key, and as the official client repeats it without one."""

from collections.abc import Mapping
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient
from tests.api.conftest import Ask, Refused, Upload

from tunesmith.store import Store

KEY = {"Idempotency-Key": "mine"}
AGAIN = {"x-stainless-retry-count": "1"}
UPLOAD = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 9, "mime_type": "text/jsonl"}


@pytest.fixture
def ask(client: TestClient, upload: Upload) -> Ask:
    file_id = upload()["id"]

    def send(headers: Mapping[str, str] | Mapping[bytes, bytes], **fields: object) -> Response:
        body = {"model": "gpt-3.5-turbo", "training_file": file_id, **fields}
        return client.post("/v1/fine_tuning/jobs", json=body, headers=headers)

    return send


def test_repeated_job_is_the_job_already_made(ask: Ask, client: TestClient) -> None:
    first = ask({"x-stainless-retry-count": "0"}).json()
    assert ask(AGAIN).json() == first  # the seed too, which was drawn at random
    assert ask(AGAIN, suffix="other").json()["id"] != first["id"]
    assert ask({}).json()["id"] != first["id"]
    assert len(client.get("/v1/fine_tuning/jobs").json()["data"]) == 3


@pytest.mark.parametrize("count", ["x", "-1", "²", ""])
def test_odd_retry_count_is_no_repetition(ask: Ask, count: str) -> None:
    header = {b"x-stainless-retry-count": count.encode("utf-8")}
    assert ask(header).json()["id"] != ask(header).json()["id"]


def test_job_with_a_key_is_made_once(ask: Ask) -> None:
    first = ask(KEY).json()
    assert ask(KEY).json() == first
    assert ask({"Idempotency-Key": "another"}).json()["id"] != first["id"]


def test_key_with_another_body_is_refused(ask: Ask, refused: Refused) -> None:
    ask(KEY)
    error = refused(ask(KEY, seed=7))
    assert error["code"] == "idempotency_key_in_use"
    assert "'mine' was used for another request" in error["message"]


def test_file_with_a_key_is_stored_once(client: TestClient, rows: bytes) -> None:
    def send(content: bytes) -> Response:
        form: dict[str, Any] = {"data": {"purpose": "fine-tune"}, "files": {"file": ("a.jsonl", content)}}
        return client.post("/v1/files", **form, headers=KEY)

    first = send(rows).json()
    assert first["status"] == "processed"
    assert send(rows).json() == first
    assert len(client.get("/v1/files").json()["data"]) == 1
    assert send(rows + rows).json()["error"]["code"] == "idempotency_key_in_use"
    assert client.get(f"/v1/files/{first['id']}/content").content == rows


def test_upload_with_a_key_is_begun_once(client: TestClient) -> None:
    first = client.post("/v1/uploads", json=UPLOAD, headers=KEY).json()
    assert client.post("/v1/uploads", json=UPLOAD, headers=KEY).json() == first
    assert client.post("/v1/uploads", json=UPLOAD).json()["id"] != first["id"]


@pytest.mark.parametrize("impossible", ["x" * 256, "a\tb"])
def test_impossible_key_is_refused(ask: Ask, refused: Refused, impossible: str) -> None:
    assert "Idempotency-Key" in refused(ask({"Idempotency-Key": impossible}))["message"]


def test_key_of_another_project_is_another_key(client: TestClient, store: Store) -> None:
    first = client.post("/v1/uploads", json=UPLOAD, headers=KEY).json()
    other = {**KEY, "OpenAI-Project": store.projects.create("other").id}
    assert client.post("/v1/uploads", json=UPLOAD, headers=other).json()["id"] != first["id"]
