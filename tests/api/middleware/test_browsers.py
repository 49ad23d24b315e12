"""Browsers: which pages may call, and what their scripts may read."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.testclient import TestClient
from tests.api.conftest import Refused

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

PAGE = "https://app.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture
def allowing(settings: Settings, store: Store) -> Iterator[TestClient]:
    allowed = settings.model_copy(update={"allowed_origins": [PAGE]})
    with TestClient(create_app(allowed, store, Pool(allowed))) as client:
        yield client


def test_preflight_of_an_allowed_page_needs_no_key(allowing: TestClient) -> None:
    answer = allowing.options("/v1/chat/completions", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == PREFLIGHT["Access-Control-Request-Headers"]


def test_preflight_of_another_page_is_refused(allowing: TestClient, refused: Refused) -> None:
    answer = allowing.options("/v1/chat/completions", headers={**PREFLIGHT, "Origin": "https://other.example"})
    error = refused(answer, 403)
    assert error["message"] == (
        "Web pages of 'https://other.example' may not call this server from a browser: its setting allowed_origins does"
        " not name them. Its operator allows them with TUNESMITH_ALLOWED_ORIGINS=https://other.example, followed by a"
        " restart."
    )
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nowhere", "/healthz"])
@pytest.mark.parametrize("headers", [PREFLIGHT, {"Origin": PAGE}, {}], ids=["preflight", "origin", "plain"])
def test_without_the_setting_a_preflight_is_told_its_name(
    app: FastAPI, refused: Refused, path: str, headers: dict[str, str]
) -> None:
    with TestClient(app) as client:
        error = refused(client.options(path, headers=headers), 403)
    assert error["code"] == "origin_not_allowed"
    assert "its setting allowed_origins does not name them" in error["message"]


def test_script_may_read_our_headers_of_an_answer_and_of_an_error(allowing: TestClient, key: str) -> None:
    answer = allowing.get("/v1/models", headers={"Authorization": f"Bearer {key}", "Origin": PAGE})
    refused = allowing.get("/v1/models", headers={"Origin": PAGE})
    assert (answer.status_code, refused.status_code) == (200, 401)
    for one in (answer, refused):
        assert one.headers["access-control-allow-origin"] == PAGE
        exposed = one.headers["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "x-ratelimit-remaining-tokens", "retry-after"} <= set(exposed)


def test_without_the_setting_no_page_may_call(client: TestClient) -> None:
    answer = client.get("/v1/models", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("https://app.example/, http://localhost:3000", ["https://app.example", "http://localhost:3000"]),
        ('["https://app.example"]', ["https://app.example"]),
        ("*", ["*"]),
        ("", []),
    ],
)
def test_origins_are_read_from_the_environment(given: str, origins: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_ALLOWED_ORIGINS", given)
    assert Settings().allowed_origins == origins
    assert Settings(allowed_origins=origins).allowed_origins == origins


@pytest.mark.parametrize("given", ["app.example", "https://app.example/page", "https://*.example"])
def test_what_is_no_origin_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin, such as"):
        Settings(allowed_origins=[given])
