"""A file's content where its bytes are in object storage: from the copy here, or straight from the bucket."""

from base64 import b64decode
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.api.conftest import Refused, Upload, chat_rows

from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.storage.bucket import open_bucket

PLACES = ["cached", "streamed"]
ROWS = chat_rows(10)
SIZE = len(ROWS)


@pytest.fixture
def settings(tmp_path: Path, storage: str) -> Settings:
    return Settings(data_dir=tmp_path / "data", organization="acme", storage=storage)


@pytest.fixture(params=PLACES)
def file(request: pytest.FixtureRequest, store: Store, upload: Upload) -> str:
    """The id of a file of `ROWS`, whose copy is here or not."""
    file_id: str = upload(ROWS, name="天气.jsonl")["id"]
    if request.param == "streamed":
        store.blobs.path(file_id).unlink()
    return file_id


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-3", 0, 4),
        ("bytes=5-", 5, SIZE),
        ("bytes=-4", SIZE - 4, SIZE),
        (f"bytes=7-{SIZE * 9}", 7, SIZE),
        (f"bytes=-{SIZE * 9}", 0, SIZE),
    ],
)
def test_a_range_is_that_part(client: TestClient, file: str, asked: str, start: int, end: int) -> None:
    answer = client.get(f"/v1/files/{file}/content", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, ROWS[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)


def test_the_whole_file_has_a_name_and_a_tag_that_is_the_same_on_every_machine(
    client: TestClient, store: Store, file: str
) -> None:
    answer = client.get(f"/v1/files/{file}/content")
    assert (answer.status_code, answer.content) == (200, ROWS)
    row = store.files.get(file)
    assert row is not None
    assert answer.headers["etag"] == f'"{row.sha256}"'
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''%E5%A4%A9%E6%B0%94.jsonl"
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_range_is_kept_to_only_while_the_file_is_the_same(client: TestClient, file: str) -> None:
    tag = client.get(f"/v1/files/{file}/content", headers={"Range": "bytes=0-0"}).headers["etag"]
    asked = [{"Range": "bytes=0-3", "If-Range": condition} for condition in (tag, '"another"')]
    answers = [client.get(f"/v1/files/{file}/content", headers=headers) for headers in asked]
    assert [(answer.status_code, len(answer.content)) for answer in answers] == [(206, 4), (200, SIZE)]


def test_a_range_beyond_the_end_is_refused(client: TestClient, file: str) -> None:
    answer = client.get(f"/v1/files/{file}/content", headers={"Range": f"bytes={SIZE}-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{SIZE}")


def test_content_in_base64_is_the_same_file(client: TestClient, file: str) -> None:
    answer = client.get(f"/v1/files/{file}/content", params={"encoding": "base64"})
    assert b64decode(answer.content, validate=True) == ROWS


def test_an_object_that_is_gone_is_no_such_file(client: TestClient, store: Store, file: str, refused: Refused) -> None:
    store.blobs.delete(file)
    refused(client.get(f"/v1/files/{file}/content"), 404)


def test_a_storage_that_is_away_is_a_503_that_names_no_host(
    client: TestClient, store: Store, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = upload(ROWS)["id"]
    store.blobs.path(file_id).unlink()
    monkeypatch.setattr(store.blobs, "_bucket", open_bucket("s3://tunesmith-is-not-there/x"))
    answers = [
        client.get(f"/v1/files/{file_id}/content"),
        client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", ROWS)}),
    ]
    for answer in answers:
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "storage_unavailable"
        assert error["message"].startswith("The object storage of the server's files refuses; what is set for it")
