"""The OpenAPI document: true of every route, whether FastAPI knows its shapes or not. `tests/fuzz` asks by it."""

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Json

from tunesmith.api.document import describe


@pytest.fixture
def document(client: TestClient) -> Json:
    found: Json = client.get("/openapi.json").json()
    return found


def test_every_operation_has_its_answer_its_errors_and_a_key(document: Json) -> None:
    operations = {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert len(operations) > 50
    for label, operation in operations.items():
        responses = operation["responses"]
        content = (responses.get("200") or responses["201"])["content"]
        assert all(media["schema"] for media in content.values()), label
        if label != "get /healthz":
            assert {"400", "401", "403", "500", "503"} <= operation["responses"].keys(), label
            assert operation["security"] == [{"key": []}], label


def test_answers_have_no_key_that_is_not_described(document: Json) -> None:
    file = document["components"]["schemas"]["File"]
    assert file["additionalProperties"] is False
    assert set(file["required"]) == set(file["properties"])


def test_body_that_a_route_reads_itself_is_described(document: Json) -> None:
    body = document["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    form = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert "expires_after[seconds]" in form["properties"]
    assert "429" in document["paths"]["/v1/chat/completions"]["post"]["responses"]


def test_route_that_nobody_described_is_an_error(app: FastAPI) -> None:
    app.get("/v1/new")(lambda: None)
    with pytest.raises(KeyError, match="GET /v1/new"):
        describe(app)
