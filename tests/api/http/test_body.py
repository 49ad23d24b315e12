"""Bodies that are no JSON object, and paths with a slash too many."""

import gzip
import json

import pytest
from starlette.testclient import TestClient
from tests.api.conftest import Refused

READERS = ["/v1/chat/completions", "/v1/completions", "/v1/moderations", "/v1/fine_tuning/jobs", "/v1/uploads"]


@pytest.mark.parametrize("path", READERS)
@pytest.mark.parametrize("encoding", ["gzip", "br", "Deflate"])
def test_a_compressed_body_is_named(client: TestClient, refused: Refused, path: str, encoding: str) -> None:
    body, headers = gzip.compress(json.dumps({"model": "m"}).encode()), {"content-encoding": encoding}
    error = refused(client.post(path, content=body, headers={**headers, "content-type": "application/json"}))
    assert error["message"] == (
        f"The request body is compressed (Content-Encoding: {encoding.lower()}), which this server does not read. Send"
        " it plain, without that header."
    )
    assert error["code"] == "unsupported_content_encoding"


def test_a_compressed_upload_is_named_too(client: TestClient, refused: Refused) -> None:
    files = {"file": ("a.jsonl", b"{}")}
    answer = client.post("/v1/files", data={"purpose": "fine-tune"}, files=files, headers={"content-encoding": "gzip"})
    assert refused(answer)["code"] == "unsupported_content_encoding"


def test_a_body_without_an_encoding_is_read(client: TestClient, refused: Refused) -> None:
    answer = client.post("/v1/chat/completions", json={}, headers={"content-encoding": "identity"})
    assert refused(answer)["code"] == "missing_required_parameter"


@pytest.mark.parametrize("path", READERS)
def test_a_body_that_is_not_utf_8_is_named(client: TestClient, refused: Refused, path: str) -> None:
    answer = client.post(path, content=b'{"model": "\xff"}', headers={"content-type": "application/json"})
    message = refused(answer)["message"]
    assert "UTF-8" in message or "utf-8" in message
    assert "error parsing the body" not in message


@pytest.mark.parametrize(
    ("method", "path", "plain"),
    [
        ("GET", "/v1/models/", "/v1/models"),
        ("GET", "/v1//models", "/v1/models"),
        ("GET", "/v1/files/", "/v1/files"),
        ("POST", "/v1/chat/completions/", "/v1/chat/completions"),
        ("POST", "//v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_a_slash_too_many_is_named(client: TestClient, refused: Refused, method: str, path: str, plain: str) -> None:
    error = refused(client.request(method, f"http://testserver{path}"), 404)
    assert error["message"] == f"Invalid URL ({method} {path}). Leave the slash out that is too many: {plain}."
    assert error["code"] == "unknown_url"


def test_a_model_without_a_name_cannot_be_deleted(client: TestClient, refused: Refused) -> None:
    assert refused(client.delete("/v1/models/"), 404)["code"] == "unknown_url"
