"""Uploads in every form that clients send, and files as the wire shows them."""

import base64
import time
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused, Upload, Valid

from tunesmith.api.app import create_app
from tunesmith.api.background.file_checks import INLINE_BYTES, FileChecks
from tunesmith.errors import ServiceUnavailable
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import FileRow, NewFile, Store
from tunesmith.store.objects.files import FileStore
from tunesmith.store.scope import EVERYBODY

KEYS = ["object", "id", "purpose", "filename", "bytes", "created_at", "expires_at", "status", "status_details"]


def stored(store: Store, file_id: str) -> FileRow:
    row = store.files.get(file_id)
    assert row is not None
    return row


def test_upload_answers_with_a_processed_file_in_the_recorded_key_order(
    client: TestClient, upload: Upload, rows: bytes, valid: Valid
) -> None:
    file = upload()
    assert list(file) == KEYS
    assert file["id"].startswith("file-")
    assert (file["object"], file["purpose"], file["filename"]) == ("file", "fine-tune", "train.jsonl")
    assert (file["bytes"], file["expires_at"]) == (len(rows), None)
    assert (file["status"], file["status_details"]) == ("processed", None)
    valid("OpenAIFile", file)
    assert client.get(f"/v1/files/{file['id']}").json() == file


@pytest.mark.parametrize("order", [("purpose", "file"), ("file", "purpose")])
def test_upload_takes_parts_in_any_order(client: TestClient, rows: bytes, order: tuple[str, str]) -> None:
    parts: dict[str, Any] = {"purpose": (None, "fine-tune"), "file": ("x.jsonl", rows)}
    answer = client.post("/v1/files", files=[(name, parts[name]) for name in order])
    assert answer.json()["status"] == "processed"


@pytest.mark.parametrize("name", ["file", "upload", "data.txt", "天气.jsonl", 'a "b".jsonl', "a;b=c.jsonl"])
def test_upload_keeps_any_file_name_and_gives_the_same_bytes_back(
    client: TestClient, upload: Upload, rows: bytes, name: str
) -> None:
    file = upload(name=name)
    assert file["filename"] == name
    answer = client.get(f"/v1/files/{file['id']}/content")
    assert answer.content == rows
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; filename")


def test_content_names_the_file_as_recorded(client: TestClient, upload: Upload) -> None:
    answer = client.get(f"/v1/files/{upload(name='sentiment.jsonl')['id']}/content")
    assert answer.headers["content-disposition"] == 'attachment; filename="sentiment.jsonl"'


def test_content_in_base64_serves_code_that_decodes_results(client: TestClient, upload: Upload, rows: bytes) -> None:
    answer = client.get(f"/v1/files/{upload()['id']}/content", params={"encoding": "base64"})
    assert base64.b64decode(answer.content, validate=True) == rows


def test_a_path_as_file_name_is_only_a_name(client: TestClient, upload: Upload, settings: Settings) -> None:
    assert upload(name="../../etc/passwd")["filename"] == "passwd"
    assert not (settings.data_dir.parent / "etc").exists()


def test_rfc_5987_file_name_of_older_clients_is_read(client: TestClient, rows: bytes) -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename*=utf-8''%E5%A4%A9%E6%B0%94.jsonl\r\n\r\n"
        + rows
        + b"\r\n--B--\r\n"
    )
    answer = client.post("/v1/files", content=body, headers={"Content-Type": "multipart/form-data; boundary=B"})
    assert answer.json()["filename"] == "天气.jsonl"


def test_broken_line_is_told_in_status_details(client: TestClient, upload: Upload, rows: bytes) -> None:
    file = upload(content=rows + b'{"messages": [}\n')
    assert file["status"] == "error"
    assert file["status_details"].startswith(
        "Invalid file format. Example 11 cannot be parsed. Error: line contains invalid json: "
        "Expecting value: line 1 column 15 (char 14) (line 11)"
    )
    assert client.get(f"/v1/files/{file['id']}").json() == file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b,c\n1,2,3\n", "Expected JSONL, where every line is a JSON dictionary."),
        ("\ufeffhallo".encode("utf-16"), "The file is UTF-16, not UTF-8."),
        (
            b'{"messages": "\xff"}\n' * 2,
            "Example 1 cannot be parsed. Error: line is not UTF-8: byte 0xff",
        ),
        (b'{"messages": []}\n' * 2, "more error"),
    ],
)
def test_wrong_file_is_told_in_status_details(upload: Upload, content: bytes, words: str) -> None:
    file = upload(content=content)
    assert file["status"] == "error"
    assert words in file["status_details"]


def test_a_short_file_is_processed_because_it_may_be_for_validation(upload: Upload, rows: bytes) -> None:
    assert upload(content=b"\n".join(rows.splitlines()[:3]))["status"] == "processed"


def test_another_purpose_is_stored_unread(upload: Upload) -> None:
    assert upload(content=b"\x00\xff no JSON", purpose="assistants")["status"] == "processed"


def test_large_file_is_uploaded_first_and_processed_behind_the_answer(
    client: TestClient, upload: Upload, rows: bytes
) -> None:
    file = upload(content=rows * (INLINE_BYTES // len(rows) + 1))
    assert file["status"] == "uploaded"
    deadline = time.monotonic() + 30
    while (now := client.get(f"/v1/files/{file['id']}").json())["status"] == "uploaded":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert now["status"] == "processed"


def test_a_check_that_a_crash_cut_off_is_done_at_the_next_start(app: FastAPI, store: Store, rows: bytes) -> None:
    blob = store.blobs.write([rows])
    row = store.files.create(blob, NewFile(purpose="fine-tune", filename="left.jsonl"))
    assert row.status == "uploaded"
    with TestClient(app):
        deadline = time.monotonic() + 10
        while stored(store, row.id).status == "uploaded":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert stored(store, row.id).status == "processed"


def test_the_report_is_kept_with_the_file(upload: Upload, store: Store) -> None:
    report = store.files.report(upload()["id"])
    assert report is not None
    assert report["examples"] == 10


def test_wrong_purpose_is_refused_in_the_recorded_words(
    client: TestClient, rows: bytes, refused: Refused, settings: Settings
) -> None:
    error = refused(client.post("/v1/files", data={"purpose": "world_domination"}, files={"file": ("x", rows)}))
    assert error == {
        "message": "'world_domination' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', "
        "'evals'] - 'purpose'",
        "type": "invalid_request_error",
        "param": "purpose",
        "code": None,
    }
    assert not [path for path in settings.paths.blobs.rglob("*") if path.is_file()]


def test_empty_file_is_refused(client: TestClient, refused: Refused) -> None:
    answer = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("empty.jsonl", b"")})
    assert refused(answer)["message"].startswith("The file 'empty.jsonl' is empty (0 bytes).")


@pytest.mark.parametrize("absent", ["file", "purpose"])
def test_missing_part_is_named(client: TestClient, rows: bytes, refused: Refused, absent: str) -> None:
    parts: dict[str, Any] = {"purpose": (None, "fine-tune"), "file": ("x.jsonl", rows)}
    del parts[absent]
    error = refused(client.post("/v1/files", files=parts))
    assert (error["message"], error["param"]) == (f"Missing required parameter: '{absent}'.", absent)


def test_unknown_part_is_named(client: TestClient, rows: bytes, refused: Refused) -> None:
    data = {"purpose": "fine-tune", "colour": "red"}
    error = refused(client.post("/v1/files", data=data, files={"file": ("x.jsonl", rows)}))
    assert (error["message"], error["code"]) == ("Unknown parameter: 'colour'.", "unknown_parameter")


def test_json_instead_of_multipart_is_explained(client: TestClient, refused: Refused) -> None:
    message = refused(client.post("/v1/files", json={"purpose": "fine-tune"}))["message"]
    assert "multipart/form-data" in message
    assert "application/json" in message


def test_an_upload_cut_short_is_refused_and_leaves_nothing(
    client: TestClient, rows: bytes, refused: Refused, settings: Settings
) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + rows
    answer = client.post("/v1/files", content=body, headers={"Content-Type": "multipart/form-data; boundary=B"})
    assert "closing boundary" in refused(answer)["message"]
    assert not [path for path in settings.paths.blobs.rglob("*") if path.is_file()]


def test_boundary_that_is_too_long_is_refused(client: TestClient, refused: Refused) -> None:
    kind = f"multipart/form-data; boundary={'B' * 257}"
    answer = client.post("/v1/files", content=b"--B--", headers={"Content-Type": kind})
    assert "has 257 characters; it may have 256" in refused(answer)["message"]


def test_file_over_the_limit_is_refused_and_leaves_nothing(
    client: TestClient, refused: Refused, settings: Settings
) -> None:
    answer = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("x", b"x" * 2_000_001)})
    assert "2000000" in refused(answer)["message"].replace(",", "")
    assert not [path for path in settings.paths.blobs.rglob("*") if path.is_file()]


def test_expiry_is_honoured(client: TestClient, upload: Upload, store: Store, refused: Refused) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = upload(**fields)
    assert file["expires_at"] - file["created_at"] == pytest.approx(3600, abs=1)
    blob = store.blobs.write([b"{}"])
    gone = store.files.create(blob, NewFile(purpose="user_data", filename="old", expires_at=int(time.time()) - 1))
    refused(client.get(f"/v1/files/{gone.id}"), 404)
    assert [entry["id"] for entry in client.get("/v1/files").json()["data"]] == [file["id"]]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"}, "expires_after[seconds]"),
    ],
)
def test_expiry_out_of_range_is_refused(
    client: TestClient, rows: bytes, refused: Refused, fields: JsonObject, param: str
) -> None:
    answer = client.post("/v1/files", data={"purpose": "fine-tune", **fields}, files={"file": ("x", rows)})
    assert refused(answer)["param"] == param


def test_list_pages_newest_first(client: TestClient, upload: Upload, valid: Valid) -> None:
    ids = [upload(name=f"{n}.jsonl")["id"] for n in range(3)][::-1]
    first = client.get("/v1/files", params={"limit": 2}).json()
    assert [file["id"] for file in first["data"]] == ids[:2]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[0], ids[1], True)
    valid("ListFilesResponse", first)
    rest = client.get("/v1/files", params={"after": ids[1]}).json()
    assert [file["id"] for file in rest["data"]] == ids[2:]
    assert rest["has_more"] is False
    oldest = client.get("/v1/files", params={"order": "asc", "limit": 1}).json()
    assert oldest["data"][0]["id"] == ids[2]


def test_list_takes_limit_zero_and_an_unknown_after(client: TestClient, upload: Upload) -> None:
    upload()
    for params in ({"limit": 0}, {"after": "file-unknown"}):
        answer = client.get("/v1/files", params=params)
        assert answer.status_code == 200
        assert answer.json()["data"] == []


def test_list_filters_by_purpose(client: TestClient, upload: Upload) -> None:
    upload()
    other = upload(purpose="user_data")
    assert [file["id"] for file in client.get("/v1/files", params={"purpose": "user_data"}).json()["data"]] == [
        other["id"]
    ]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("limit", "-1", "'-1' is less than the minimum of 0 - 'limit'"),
        ("limit", "10001", "'10001' is greater than the maximum of 10000 - 'limit'"),
        ("limit", "many", "'many' is not a whole number - 'limit'"),
        ("order", "sideways", "'sideways' is not one of ['asc', 'desc'] - 'order'"),
    ],
)
def test_wrong_list_option_is_named(client: TestClient, refused: Refused, name: str, value: str, message: str) -> None:
    error = refused(client.get("/v1/files", params={name: value}))
    assert (error["message"], error["param"]) == (message, name)


def test_delete_takes_the_file_away(client: TestClient, upload: Upload, refused: Refused, valid: Valid) -> None:
    file_id = upload()["id"]
    answer = client.delete(f"/v1/files/{file_id}").json()
    assert answer == {"id": file_id, "object": "file", "deleted": True}
    valid("DeleteFileResponse", answer)
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        refused(client.get(path), 404)


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("DELETE", ""), ("GET", "/content")])
def test_unknown_file_is_told_in_the_recorded_words(
    client: TestClient, refused: Refused, method: str, tail: str
) -> None:
    error = refused(client.request(method, f"/v1/files/fake_id{tail}"), 404)
    assert error == {
        "message": "No such File object: fake_id",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }


class Unanswering(FileStore):
    """A database that is away for the first verdict of a check."""

    faults = 1

    def set_status(self, *args: Any, **kwargs: Any) -> FileRow | None:
        if self.faults:
            self.faults -= 1
            raise ServiceUnavailable("The database does not answer.")
        return super().set_status(*args, **kwargs)


def test_stored_file_is_no_error_when_the_database_is_away_for_its_check(
    settings: Settings, store: Store, key: str, rows: bytes
) -> None:
    flaky = replace(store, files=Unanswering(store.database, store.blobs, EVERYBODY))
    checks = FileChecks(flaky, settings)
    row = store.files.create(store.blobs.write([rows]), NewFile(purpose="fine-tune", filename="a.jsonl"))
    assert checks.submit(row).status == "uploaded"
    checks.start()
    for _ in range(300):
        if stored(store, row.id).status == "processed":
            break
        time.sleep(0.01)
    else:
        pytest.fail("the check was not repeated")
    checks.stop()


def test_result_files_are_served_as_the_setting_says(settings: Settings, store: Store, key: str) -> None:
    in_base64 = settings.model_copy(update={"result_encoding": "base64"})
    result = store.files.create(
        store.blobs.write([b"step,loss"]), NewFile(purpose="fine-tune-results", filename="a.csv")
    )
    other = store.files.create(store.blobs.write([b"step,loss"]), NewFile(purpose="user_data", filename="a.csv"))
    client = TestClient(create_app(in_base64, store, Pool(in_base64)), headers={"Authorization": f"Bearer {key}"})
    assert base64.b64decode(client.get(f"/v1/files/{result.id}/content").content, validate=True) == b"step,loss"
    assert client.get(f"/v1/files/{result.id}/content", params={"encoding": "plain"}).content == b"step,loss"
    assert client.get(f"/v1/files/{other.id}/content").content == b"step,loss"


def test_what_the_check_has_kept_goes_with_the_file(client: TestClient, settings: Settings, rows: bytes) -> None:
    file = client.post("/v1/files", files={"file": ("a.jsonl", rows)}, data={"purpose": "fine-tune"}).json()
    assert len(list(settings.paths.checks.iterdir())) == 1
    assert client.delete(f"/v1/files/{file['id']}").json()["deleted"]
    assert not list(settings.paths.checks.iterdir())


def test_what_the_check_has_kept_of_an_expired_file_is_swept(
    client: TestClient, settings: Settings, store: Store, rows: bytes
) -> None:
    kept = client.post("/v1/files", files={"file": ("a.jsonl", rows)}, data={"purpose": "fine-tune"}).json()
    gone = client.post("/v1/files", files={"file": ("b.jsonl", rows * 2)}, data={"purpose": "fine-tune"}).json()
    assert store.files.delete(gone["id"])
    checks = FileChecks(store, settings)
    assert checks.sweep() == 1
    (file,) = settings.paths.checks.iterdir()
    assert file.name.startswith(stored(store, kept["id"]).sha256)
