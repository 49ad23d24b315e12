"""What every answer has in common: keys, headers, envelopes."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused, key_row

from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.middleware.auth import mask
from tunesmith.errors import ServiceUnavailable
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store


def test_importing_the_application_imports_no_torch() -> None:
    code = "import sys, tunesmith.web.site; print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/files", "/v1/nowhere", "/v1"])
def test_call_without_a_key_is_told_where_to_find_one(
    app: FastAPI, refused: Refused, settings: Settings, path: str
) -> None:
    error = refused(TestClient(app).get(path), 401)
    assert "Authorization: Bearer" in error["message"]
    assert "the file `api-key` of the server's data directory" in error["message"]
    assert str(settings.data_dir) not in error["message"]


def test_wrong_key_is_masked_as_recorded(app: FastAPI, refused: Refused, settings: Settings) -> None:
    answer = TestClient(app).get("/v1/models", headers={"Authorization": "Bearer not-a-real-key-it-was-not-authorized"})
    error = refused(answer, 401)
    assert error["message"].startswith("Incorrect API key provided: not-a-re***ized. You can find your API key in ")
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_api_key")


@pytest.mark.parametrize("raw", ["", "a", "ab", "abcdef", "sk-12345678"])
def test_mask_never_shows_half_of_a_short_key(raw: str) -> None:
    shown = mask(raw).replace("***", "", 1)
    assert len(shown) <= len(raw) / 2


def test_revoked_key_is_refused(
    app: FastAPI, client: TestClient, store: Store, settings: Settings, key: str, refused: Refused
) -> None:
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models").status_code == 200  # with the key as it was remembered
    other = open_store(settings)  # as `tunesmith keys revoke`, another process, has it
    other.keys.revoke(key_row(store, key).id)
    other.close()
    refused(client.get("/v1/models"), 401)


def test_unauthorised_upload_is_refused_before_its_body_is_read(app: FastAPI, refused: Refused) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("the body was asked for")
        yield b""

    refused(TestClient(app).post("/v1/files", content=body(), headers={"Authorization": "Bearer no"}), 401)


def test_an_answer_may_have_any_number() -> None:
    assert JSONAnswer({"small": 1.5, "large": 2**70}).body == b'{"small":1.5,"large":1180591620717411303424}'


def test_health_needs_no_key(app: FastAPI) -> None:
    assert TestClient(app).get("/healthz").json()["status"] == "ok"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/files/fake", "/v1/nowhere", "/healthz"])
def test_every_answer_has_openai_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert re.fullmatch(r"req_[0-9a-f]{32}", headers["x-request-id"])
    assert headers["request-id"] == headers["x-request-id"]
    assert headers["openai-processing-ms"].isdigit()
    assert headers["openai-version"] == "2020-10-01"
    assert headers["openai-organization"] == "acme"


def test_refusal_of_a_key_has_the_headers_too(app: FastAPI) -> None:
    assert TestClient(app).get("/v1/models").headers["x-request-id"].startswith("req_")


def test_unknown_url_is_an_envelope(client: TestClient, refused: Refused) -> None:
    error = refused(client.get("/v1/nowhere"), 404)
    assert error["message"].startswith("Invalid URL (GET /v1/nowhere).")


@pytest.mark.parametrize(
    ("method", "path", "instead"),
    [
        ("POST", "/v1/fine-tunes", "use /v1/fine_tuning/jobs"),
        ("POST", "/v1/batches", "/v1/chat/completions"),
        ("POST", "/v1/engines/x/embeddings", "no embeddings"),
        ("GET", "/v1/organization/costs", "tunesmith usage"),
        ("GET", "/v1/", "docs/api.md"),
    ],
)
def test_what_openai_has_and_we_have_not_says_what_to_use_instead(
    client: TestClient, refused: Refused, method: str, path: str, instead: str
) -> None:
    error = refused(client.request(method, path), 404)
    assert error["code"] == "unknown_url"
    assert instead in error["message"]


def test_the_api_of_2022_points_to_its_successor(client: TestClient, refused: Refused) -> None:
    for path in ("/v1/fine-tunes", "/v1/fine-tunes/ft-abc/events"):
        assert "/v1/fine_tuning/jobs" in refused(client.get(path), 404)["message"]


def test_no_422_is_promised(app: FastAPI) -> None:
    assert "422" not in app.openapi().__repr__()


def test_a_base_url_without_v1_is_explained(client: TestClient, refused: Refused) -> None:
    assert "base_url" in refused(client.post("/chat/completions", json={}), 404)["message"]


def test_wrong_verb_is_an_envelope(client: TestClient, refused: Refused) -> None:
    answer = client.put("/v1/models")
    assert refused(answer, 405)["code"] == "method_not_supported"
    assert answer.headers["allow"] == "GET"


def test_broken_json_is_a_400(client: TestClient, refused: Refused) -> None:
    answer = client.post("/v1/fine_tuning/jobs", content=b'{"model": ', headers={"Content-Type": "application/json"})
    assert refused(answer)["message"].startswith("The request body is not valid JSON: it ends")


@pytest.mark.parametrize("body", [b"[]", b"7", b'"text"', b"null", b""])
def test_a_body_that_is_no_object_is_a_400(client: TestClient, refused: Refused, body: bytes) -> None:
    answer = client.post("/v1/fine_tuning/jobs", content=body, headers={"Content-Type": "application/json"})
    assert "JSON object" in refused(answer)["message"]


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/moderations", "input"), ("/v1/chat/completions", "messages"), ("/v1/fine_tuning/jobs", "metadata")],
)
def test_a_deeply_nested_body_is_a_400(client: TestClient, refused: Refused, path: str, field: str) -> None:
    """Which levels can still be read differs between routes; none of them is a fault of the server."""
    for levels in (100, 300, 600, 1000, 5000):
        value = "[" * levels + "]" * levels
        body = f'{{"{field}": {value}, "model": "smollm2-135m-instruct"}}'
        refused(client.post(path, content=body, headers={"content-type": "application/json"}))


def test_a_deeply_nested_grader_is_a_400(client: TestClient, refused: Refused) -> None:
    head = '{"type": "multi", "name": "m", "calculate_output": "a", "graders": {"a": '
    body = f'{{"grader": {head * 510}1{"}}" * 510}}}'
    answer = client.post("/v1/fine_tuning/alpha/graders/validate", content=body)
    assert "nested too deeply" in refused(answer)["message"]


def test_a_form_instead_of_json_is_explained(client: TestClient, refused: Refused) -> None:
    message = refused(client.post("/v1/fine_tuning/jobs", data={"model": "x"}))["message"]
    assert "Content-Type: application/json" in message


@pytest.mark.parametrize("path", ["/v1/fine_tuning/jobs", "/v1/chat/completions"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_body_is_refused(client: TestClient, refused: Refused, path: str, announced: bool) -> None:
    body = b" " * (4 * 1024 * 1024 + 1)
    pieces = body if announced else iter([body[:1000], body[1000:]])
    answer = client.post(path, content=pieces, headers={"Content-Type": "application/json"})
    error = refused(answer, 413)
    assert "POST /v1/files" in error["message"]
    assert error["code"] == "request_too_large"


def test_being_too_busy_says_when_to_come_again(app: FastAPI, client: TestClient, refused: Refused) -> None:
    def be_busy() -> None:
        raise ServiceUnavailable("Too much at once.", code="server_is_overloaded")

    app.add_api_route("/v1/busy", be_busy)
    answer = client.get("/v1/busy")
    assert refused(answer, 503)["type"] == "service_unavailable_error"
    assert answer.headers["retry-after"] == "1"


def test_unexpected_fault_is_an_envelope_that_tells_no_secrets_and_forbids_a_retry(
    app: FastAPI, client: TestClient, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down() -> None:
        raise RuntimeError("password=hunter2")

    app.add_api_route("/v1/break", break_down, methods=["GET", "POST"])
    answer = client.post("/v1/break")
    error = refused(answer, 500)
    assert error["type"] == "server_error"
    assert answer.headers["x-request-id"] in error["message"]
    assert "hunter2" not in answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in client.get("/v1/break").headers
    assert "hunter2" in "".join(capsys.readouterr())


def test_healthz_says_why_no_worker_runs(app: FastAPI, client: TestClient) -> None:
    assert "worker" not in client.get("/healthz").json()
    app.state.worker_fault = lambda: "The worker cannot be started: Too many open files."
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert answer.json()["worker"] == "The worker cannot be started: Too many open files."
