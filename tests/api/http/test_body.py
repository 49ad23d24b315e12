"""Bodies that are no JSON object, and paths with a slash too many."""

import gzip
import json

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient
from tests.api.conftest import Refused

from tunesmith.api.app import ROUTERS
from tunesmith.api.http.body import JsonRoute

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


BEGIN = "The request body is not valid JSON:"
HALF = "Send the whole character, or leave it out: a text that is cut may lose half of an emoji."
BROKEN = {  # a body -> the whole sentence
    "utf-8": (b'{"a": "\xff"}', "The request body is not UTF-8 (byte 0xff at position 7). Send it in UTF-8."),
    "utf-16": ('{"a": 1}'.encode("utf-16"), "The request body is in UTF-16. Send it in UTF-8."),
    "utf-16-le": ('{"a": 1}'.encode("utf-16-le"), "The request body is in UTF-16. Send it in UTF-8."),
    "utf-32": ('{"a": 1}'.encode("utf-32-be"), "The request body is in UTF-32. Send it in UTF-8."),
    "bom": (
        b'\xef\xbb\xbf{"a": 1}',
        "The request body begins with a byte-order mark (BOM). Send it without one; in Python, encode it as 'utf-8' "
        "instead of 'utf-8-sig'.",
    ),
    "gzip": (
        gzip.compress(b'{"a": 1}'),
        "The request body is compressed (gzip), which this server does not read. Send it plain.",
    ),
    "escaped half": (
        b'{"a": "\\ud83d"}',
        f'A text of the request body has half a surrogate pair, line 1, column 8 ({{"a": "\\ud83d"}}). {HALF}',
    ),
    "raw half": (
        b'{"a": "\xed\xa0\xbd"}',
        f"The request body has half a surrogate pair, at byte 7, which is not UTF-8. {HALF}",
    ),
    "cut": (
        b'{"model": "m", "messa',
        f"{BEGIN} it ends before its last bracket, after 21 bytes. Send all of it; a Content-Length counts bytes, not "
        "characters.",
    ),
    "blank": (b" \n", "The request body is empty. Send a JSON object."),
    "form": (
        b"model=m&input=x",
        "The request body is a form. Send a JSON object, with the header `Content-Type: application/json`.",
    ),
    "two": (
        b'{"a": 1}\n{}',
        f'{BEGIN} more follows its last bracket, line 2, column 1 ({{"a": 1}}\ufffd{{}}). Send one JSON object.',
    ),
    "html": (b"<p>", f"{BEGIN} it begins with <p>. Send a JSON object."),
    "comma": (
        b'{"a": 1,}',
        f'{BEGIN} see line 1, column 8 ({{"a": 1,}}). A comma stands before the closing }}. Delete it.',
    ),
    "no comma": (
        b'{"a": 1 "b": 2}',
        f'{BEGIN} see line 1, column 9 ({{"a": 1 "b": 2}}). A comma is missing. Write it.',
    ),
    "python": (b'{"a":\n None}', f'{BEGIN} see line 2, column 2 ({{"a":\ufffd None}}). None is Python\'s. Write null.'),
    "nan": (
        b'{"a": NaN}',
        f'{BEGIN} see line 1, column 7 ({{"a": NaN}}). NaN is no value of JSON. Write null or a number.',
    ),
    "zero": (
        b'{"a": 01}',
        f'{BEGIN} see line 1, column 7 ({{"a": 01}}). 01 is not how JSON writes a number. Write it as 0.5, -1 or 10: '
        "digits alone, none missing beside the point, no zero or + in front.",
    ),
    "infinite": (
        b'{"a": -1e999}',
        'The request body has a number that is not a finite number: -1e999, line 1, column 7 ({"a": -1e999}). Send one '
        "between -1.7e308 and 1.7e308.",
    ),
    "deep": (b"[" * 3000, "The request is nested too deeply to be read: send a flatter one."),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_body_that_is_not_json_is_told_why_in_our_words(client: TestClient, refused: Refused, what: str) -> None:
    body, message = BROKEN[what]
    for path in READERS:
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert refused(answer)["message"] == message, path


def test_each_route_whose_body_fastapi_reads_has_our_parser() -> None:
    reading = [one for router in ROUTERS for one in router.routes if isinstance(one, APIRoute) and one.body_field]
    assert len(reading) > 8
    assert all(isinstance(route, JsonRoute) for route in reading)


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
