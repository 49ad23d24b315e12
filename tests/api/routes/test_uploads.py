"""/v1/uploads on the wire: shapes, limits, refusals."""

import time
from hashlib import md5
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient
from tests.api.conftest import Ask, Json, Refused, Valid

from tunesmith.api.app import create_app
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import NewFile, Store

KEYS = ["id", "object", "bytes", "created_at", "filename", "purpose", "status", "expires_at"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return Settings(**{**settings.model_dump(), "max_part_bytes": 1000, "max_upload_bytes": 100_000})


@pytest.fixture
def begin(client: TestClient) -> Ask:
    def send(size: object = 3, **changes: object) -> Response:
        body = {"filename": "rows.jsonl", "purpose": "fine-tune", "bytes": size, "mime_type": "text/jsonl", **changes}
        return client.post("/v1/uploads", json=body)

    return send


@pytest.fixture
def part(client: TestClient) -> Ask:
    def send(upload: Json, content: bytes, **changes: object) -> Response:
        form: dict[str, Any] = {"files": {"data": ("blob", content)}, **changes}
        return client.post(f"/v1/uploads/{upload['id']}/parts", **form)

    return send


def test_rows_in_parts_become_a_checked_file(
    client: TestClient, begin: Ask, part: Ask, rows: bytes, valid: Valid
) -> None:
    upload = begin(len(rows)).json()
    valid("Upload", upload)
    assert list(upload) == KEYS
    assert (upload["status"], upload["expires_at"]) == ("pending", upload["created_at"] + 3600)
    pieces = [rows[start : start + 700] for start in range(0, len(rows), 700)]
    parts = [part(upload, piece).json() for piece in pieces]
    assert list(parts[0]) == ["id", "object", "created_at", "upload_id"]
    valid("UploadPart", parts[0])
    body = {"part_ids": [one["id"] for one in parts], "md5": md5(rows).hexdigest()}
    done = client.post(f"/v1/uploads/{upload['id']}/complete", json=body).json()
    valid("Upload", done)
    assert list(done) == [*KEYS, "file"]
    assert (done["status"], done["file"]["status"], done["file"]["bytes"]) == ("completed", "processed", len(rows))
    assert client.get(f"/v1/files/{done['file']['id']}").json() == done["file"]
    assert client.get(f"/v1/files/{done['file']['id']}/content").content == rows
    assert client.post(f"/v1/uploads/{upload['id']}/complete", json=body).json() == done
    assert client.get(f"/v1/uploads/{upload['id']}").json()["status"] == "completed"


def test_broken_rows_in_parts_fail_their_check(client: TestClient, begin: Ask, part: Ask) -> None:
    upload = begin(9).json()
    body = {"part_ids": [part(upload, b"not JSON\n").json()["id"]]}
    file = client.post(f"/v1/uploads/{upload['id']}/complete", json=body).json()["file"]
    assert file["status"] == "error"
    assert "Line 1 is not a dictionary" in file["status_details"]


def test_expiry_of_the_file_counts_from_its_completion(client: TestClient, begin: Ask, part: Ask) -> None:
    upload = begin(3, purpose="user_data", mime_type="x/y", expires_after={"anchor": "created_at", "seconds": 7200})
    body = {"part_ids": [part(upload.json(), b"abc").json()["id"]]}
    file = client.post(f"/v1/uploads/{upload.json()['id']}/complete", json=body).json()["file"]
    assert file["expires_at"] == pytest.approx(file["created_at"] + 7200, abs=1)


def test_cancelled_upload_takes_no_parts(
    client: TestClient, begin: Ask, part: Ask, refused: Refused, valid: Valid
) -> None:
    upload = begin(3).json()
    cancelled = client.post(f"/v1/uploads/{upload['id']}/cancel").json()
    valid("Upload", cancelled)
    assert cancelled == {**upload, "status": "cancelled"}
    error = refused(part(upload, b"abc"))
    assert (error["param"], error["code"]) == ("upload_id", "upload_cancelled")
    assert (
        refused(client.post(f"/v1/uploads/{upload['id']}/complete", json={"part_ids": ["x"]}))["code"] == error["code"]
    )


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"bytes": 0}, "bytes", "minimum of 1"),
        ({"bytes": 100_001}, "bytes", "max_upload_bytes"),
        ({"bytes": "10"}, "bytes", "'10'"),
        ({"bytes": 2**70}, "bytes", "greater than the maximum"),
        ({"purpose": "fine-tune-results"}, "purpose", "is not one of ['fine-tune'"),
        ({"mime_type": "image/png"}, "mime_type", "'text/jsonl'"),
        ({"filename": ""}, "filename", ""),
        ({"filename": "a\0"}, "filename", "NUL"),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after.seconds", "minimum of 3600"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor", "created_at"),
        ({"expires_after": {"seconds": 3600}}, "expires_after.anchor", "Missing"),
        ({"mode": "fast"}, "mode", "Unknown parameter"),
    ],
)
def test_wrong_creation_is_refused_by_name(
    begin: Ask, refused: Refused, changes: JsonObject, param: str, words: str
) -> None:
    error = refused(begin(**changes))
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"files": {"data": ("blob", b"x" * 1001)}}, "data"),
        ({"files": {"data": ("blob", b"")}}, "data"),
        ({"files": {"file": ("blob", b"x")}}, "file"),
        ({"files": {"data": ("blob", b"x")}, "data": {"purpose": "fine-tune"}}, "purpose"),
        ({"files": [("data", ("a", b"x")), ("data", ("b", b"y"))]}, "data"),
    ],
)
def test_wrong_part_is_refused_and_leaves_nothing(
    client: TestClient, begin: Ask, settings: Settings, refused: Refused, form: dict[str, Any], param: str
) -> None:
    upload = begin(3).json()
    assert refused(client.post(f"/v1/uploads/{upload['id']}/parts", **form))["param"] == param
    assert list((settings.paths.blobs / ".uploads" / upload["id"]).iterdir()) == []


def test_part_as_json_is_explained(client: TestClient, begin: Ask, refused: Refused) -> None:
    message = refused(client.post(f"/v1/uploads/{begin(3).json()['id']}/parts", json={"data": "abc"}))["message"]
    assert "multipart/form-data with the part 'data'" in message


@pytest.mark.parametrize("body", [{}, {"part_ids": []}, {"part_ids": "x"}, {"part_ids": ["x"], "md5": "nonsense"}])
def test_wrong_completion_is_refused(client: TestClient, begin: Ask, refused: Refused, body: JsonObject) -> None:
    error = refused(client.post(f"/v1/uploads/{begin(3).json()['id']}/complete", json=body))
    assert error["param"] in ("part_ids", "md5")


def test_unknown_upload_is_404(client: TestClient, refused: Refused) -> None:
    for answer in (
        client.get("/v1/uploads/upload_x"),
        client.post("/v1/uploads/upload_x/parts", files={"data": ("a", b"x")}),
        client.post("/v1/uploads/upload_x/complete", json={"part_ids": ["x"]}),
        client.post("/v1/uploads/upload_x/cancel"),
    ):
        assert refused(answer, 404)["message"] == "No such Upload object: upload_x"


def test_a_running_server_sweeps_by_itself(settings: Settings, store: Store, key: str) -> None:
    quick = Settings(**{**settings.model_dump(), "sweep_seconds": 0.02})
    row = store.files.create(store.blobs.write([b"x"]), NewFile(purpose="user_data", filename="a", expires_at=1))
    with running(quick, store, key) as client:
        assert client.get(f"/v1/files/{row.id}").status_code == 404
        path = store.blobs.path(row.id)
        for _ in range(200):
            if not path.exists():
                return
            time.sleep(0.01)
    pytest.fail("the expired file's bytes are still there")


def running(settings: Settings, store: Store, key: str) -> TestClient:
    return TestClient(create_app(settings, store, Pool(settings)), headers={"Authorization": f"Bearer {key}"})
