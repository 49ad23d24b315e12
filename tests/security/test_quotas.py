"""What a key may keep here: nothing for read-only, and no more than its project's share."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused, Upload
from tests.security.conftest import As

from tunesmith.api.http.disk_room import demand_disk
from tunesmith.errors import DiskFull
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import ChatRow, Store
from tunesmith.store.objects.chats import PAGE_BYTES

CHAT = "/v1/chat/completions"
JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def limit(app: FastAPI) -> Callable[..., None]:
    """`limit(limit_project_bytes=…)` changes settings of the running application."""

    def change(**values: object) -> None:
        parts = app.state.parts
        app.state.parts = replace(parts, settings=parts.settings.model_copy(update=values))

    return change


def stored(number: int, size: int = 10) -> ChatRow:
    body: JsonObject = {"object": "chat.completion", "id": f"chatcmpl-{number}"}
    message: JsonObject = {"role": "user", "content": "x" * size}
    return ChatRow(f"chatcmpl-{number}", "m", "m", 5, body, (message,), {}, "default")


@pytest.mark.parametrize("path", [CHAT, "/v1/engines/gpt-3.5-turbo/chat/completions"])
def test_read_only_key_stores_nothing(calling_as: As, refused: Refused, store: Store, path: str) -> None:
    asked = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hi"}], "store": True}
    error = refused(calling_as("read-only").post(path, json=asked), 403)
    assert error["code"] == "insufficient_permissions"
    assert "only one with the role member stores chats (`store: true`)." in error["message"]
    assert store.chats.count() == 0


def test_stored_chats_have_a_limit(calling_as: As, refused: Refused, store: Store, limit: Callable[..., None]) -> None:
    limit(limit_stored_chats=2)
    for number in range(2):
        store.chats.add(stored(number))
    asked = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hi"}], "store": True}
    error = refused(calling_as("member").post(CHAT, json=asked), 400)
    assert error["message"].startswith("Project default has stored 2 chat completions, the limit here")
    assert (error["param"], error["code"]) == ("store", "stored_chats_limit")
    store.chats.delete("chatcmpl-0")
    assert store.chats.count() == 1


def test_page_of_stored_chats_is_cut_by_its_bytes(client: TestClient, store: Store) -> None:
    for number in range(5):
        store.chats.add(stored(number, PAGE_BYTES // 2 - 1000))
    first = client.get(CHAT, params={"limit": 10_000, "order": "asc"}).json()
    assert [one["id"] for one in first["data"]] == ["chatcmpl-0", "chatcmpl-1"]
    assert first["has_more"]
    second = client.get(CHAT, params={"limit": 10_000, "order": "asc", "after": "chatcmpl-1"}).json()
    assert [one["id"] for one in second["data"]] == ["chatcmpl-2", "chatcmpl-3"]
    last = client.get(CHAT, params={"limit": 10_000, "after": "chatcmpl-1"}).json()
    assert ([one["id"] for one in last["data"]], last["has_more"]) == (["chatcmpl-0"], False)


def test_a_chat_larger_than_a_page_is_a_page(client: TestClient, store: Store) -> None:
    for number in range(2):
        store.chats.add(stored(number, PAGE_BYTES + 1))
    page = client.get(CHAT).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (["chatcmpl-1"], True)


def test_small_chats_are_paged_as_before(client: TestClient, store: Store) -> None:
    for number in range(5):
        store.chats.add(stored(number))
    page = client.get(CHAT, params={"limit": 3, "order": "asc"}).json()
    assert ([one["id"][-1] for one in page["data"]], page["has_more"]) == (["0", "1", "2"], True)
    assert not client.get(CHAT, params={"limit": 5}).json()["has_more"]


def test_a_project_has_no_more_unfinished_jobs_than_the_setting(
    client: TestClient, upload: Upload, refused: Refused, limit: Callable[..., None], store: Store
) -> None:
    limit(limit_unfinished_jobs=2)
    file = upload()["id"]
    body = {"model": "gpt-3.5-turbo", "training_file": file}
    first = client.post(JOBS, json=body, headers={"idempotency-key": "a"}).json()
    assert client.post(JOBS, json=body).status_code == 200
    answer = client.post(JOBS, json=body)
    error = refused(answer, 429)
    assert error["message"].startswith("Project default has 2 unfinished jobs, the limit here")
    assert client.post(JOBS, json=body, headers={"idempotency-key": "a"}).json()["id"] == first["id"]
    client.post(f"{JOBS}/{first['id']}/cancel")
    assert client.post(JOBS, json=body).status_code == 200
    limit(limit_unfinished_jobs=0)
    assert client.post(JOBS, json=body).status_code == 200


def test_a_project_keeps_no_more_bytes_than_its_quota(
    client: TestClient, upload: Upload, refused: Refused, rows: bytes, limit: Callable[..., None]
) -> None:
    limit(limit_project_bytes=3 * len(rows))
    kept = upload()["id"]
    send = {"data": {"purpose": "fine-tune"}, "files": {"file": ("x.jsonl", 2 * rows)}}
    error = refused(client.post("/v1/files", **send), 400)  # type: ignore[arg-type]
    assert error["code"] == "project_quota_exceeded"
    assert f"has {len(rows):,} bytes of files and open uploads" in error["message"]
    announced = {"filename": "x.jsonl", "purpose": "fine-tune", "mime_type": "text/jsonl", "bytes": 2 * len(rows)}
    assert client.post("/v1/uploads", json=announced).status_code == 200
    refused(client.post("/v1/uploads", json={**announced, "bytes": 1}), 400)
    client.delete(f"/v1/files/{kept}")
    assert client.post("/v1/uploads", json={**announced, "bytes": len(rows)}).status_code == 200


def test_uploads_leave_the_reserve_free(
    client: TestClient, upload: Upload, refused: Refused, rows: bytes, limit: Callable[..., None], settings: Settings
) -> None:
    announced = {"filename": "x.jsonl", "purpose": "fine-tune", "mime_type": "text/jsonl", "bytes": len(rows)}
    open_upload = client.post("/v1/uploads", json=announced).json()["id"]
    limit(disk_reserve_bytes=2**60)
    part = {"files": {"data": ("part", rows)}}
    answers = [
        client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("x.jsonl", rows)}),
        client.post("/v1/uploads", json=announced),
        client.post(f"/v1/uploads/{open_upload}/parts", **part),  # type: ignore[arg-type]
        client.post(f"/v1/uploads/{open_upload}/complete", json={"part_ids": ["part_1"]}),
    ]
    for answer in answers:
        assert refused(answer, 507)["code"] == "insufficient_storage"
        assert answer.headers["x-should-retry"] == "false"
    assert [path for path in settings.paths.blobs.rglob("*") if path.is_file()] == []
    limit(disk_reserve_bytes=0)
    upload()


def test_reserve_is_a_tenth_of_the_disk_or_two_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 1024**3
    for total, free, fits in ((100 * gib, 2 * gib + 1, 1), (100 * gib, 2 * gib, 0), (gib, gib // 10, 0), (gib, gib, 1)):
        usage = SimpleNamespace(total=total, free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        if fits:
            demand_disk(Settings(data_dir=tmp_path), 1)
        else:
            with pytest.raises(DiskFull, match=r"are kept for running jobs \(setting disk_reserve_bytes\)"):
                demand_disk(Settings(data_dir=tmp_path), 1)


def test_lists_in_a_request_have_limits(client: TestClient, refused: Refused) -> None:
    wandb = {"type": "wandb", "wandb": {"project": "p", "tags": ["t"] * 33}}
    job = {"model": "gpt-3.5-turbo", "training_file": "file-0", "integrations": [wandb]}
    assert "integrations[0].wandb.tags" in refused(client.post(JOBS, json=job), 400)["message"]
    validate = "/v1/fine_tuning/alpha/graders/validate"
    check = {"type": "string_check", "name": "n", "operation": "eq", "input": "x" * 100_001, "reference": "y"}
    error = refused(client.post(validate, json={"grader": check}), 400)
    assert error["message"].startswith("A text has 100,001 characters; at most 100,000 are graded.")
    message = {"role": "user", "content": "x"}
    model = {"type": "score_model", "name": "n", "model": "gpt-3.5-turbo", "input": [message] * 129}
    assert "128" in refused(client.post(validate, json={"grader": model}), 400)["message"]
