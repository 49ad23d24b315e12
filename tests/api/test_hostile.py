"""Whatever is sent, the answer is a success or an envelope with a 4xx, on both databases: never a 500, never a 422."""

import json
import os
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.databases import Migrated

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.wire.jobs import CreateJob

text = st.text(st.characters(codec=None, exclude_categories=()), max_size=70)  # surrogates and NUL too
value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text | st.just("auto"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
numbers = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier", "beta", "x"), value)
)
method = st.fixed_dictionaries(
    {"type": st.sampled_from(["supervised", "dpo", "reinforcement"]) | value},
    optional=dict.fromkeys(("supervised", "dpo"), st.fixed_dictionaries({}, optional={"hyperparameters": numbers})),
)
special = {"hyperparameters": numbers, "method": method, "metadata": st.dictionaries(text, text, max_size=3)}
optional = {name: special.get(name, value) | value for name in CreateJob.model_fields}
body = st.fixed_dictionaries(
    {}, optional={**optional, "model": st.just("gpt-4o-mini") | value, "training_file": st.just("FILE") | value}
)
TIMES = int(os.environ.get("PROPERTIES", "1"))  # `make fuzz` makes more
fuzz = settings(max_examples=15 * TIMES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def client(store_settings: Settings, store: Store) -> Iterator[TestClient]:
    """Instead of the directory's: over SQLite, then over PostgreSQL."""
    headers = {"Authorization": f"Bearer {store.keys.create('tests')[0]}"}
    with TestClient(create_app(store_settings, store, Pool(store_settings)), headers=headers) as client:
        yield client


@pytest.fixture
def store(store_settings: Settings, migrated: Migrated) -> Iterator[Store]:
    store = open_store(migrated(store_settings))
    yield store
    store.close()


def accepted_or_refused(answer: Response) -> None:
    if answer.status_code != 200:
        assert answer.status_code in (400, 404, 405), answer.text
        assert list(answer.json()["error"]) == ["message", "type", "param", "code"]
        assert answer.json()["error"]["message"]


def test_any_job_request_is_accepted_or_refused(client: TestClient, rows: bytes) -> None:
    answer = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("x.jsonl", rows)})
    file_id = answer.json()["id"]

    @settings(fuzz, max_examples=60 * TIMES)
    @given(body)
    def send(request: dict[str, object]) -> None:
        if request.get("training_file") == "FILE":
            request = {**request, "training_file": file_id}
        content = json.dumps(request).encode()
        accepted_or_refused(
            client.post("/v1/fine_tuning/jobs", content=content, headers={"Content-Type": "application/json"})
        )

    send()
    assert client.get("/v1/fine_tuning/jobs", params={"limit": 1000}).status_code == 200


@pytest.mark.parametrize("field", ["model", "training_file", "suffix", "metadata"])
@pytest.mark.parametrize(("letter", "reason"), [("\0", "NUL character"), ("\ud800", "half a surrogate pair")])
def test_text_that_no_database_or_answer_can_hold_is_refused(
    client: TestClient, field: str, letter: str, reason: str
) -> None:
    given = {"metadata": {"key": letter}} if field == "metadata" else {field: letter}
    request = json.dumps({"model": "gpt-4o-mini", "training_file": "file-x", **given})
    answer = client.post("/v1/fine_tuning/jobs", content=request, headers={"Content-Type": "application/json"})
    accepted_or_refused(answer)
    error = answer.json()["error"]
    assert reason in error["message"]
    if letter == "\0":
        assert error["param"].startswith(field)
    else:  # no JSON text at all: refused by its place, before any field is known
        assert "column" in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/{}",
        "/v1/files/{}/content",
        "/v1/models/{}",
        "/v1/fine_tuning/jobs/{}",
        "/v1/fine_tuning/jobs/{}/events",
        "/v1/uploads/{}",
        "/v1/chat/completions/{}",
        "/v1/chat/completions?metadata[{}]=x",
        "/v1/fine_tuning/checkpoints/{}/permissions",
        "/v1/fine_tuning/checkpoints/x/permissions?project_id={}",
        "/v1/{}",
        "/v1/files?after={}",
        "/v1/files?purpose={}",
        "/v1/files?limit={}",
        "/v1/fine_tuning/jobs?after={}",
        "/v1/fine_tuning/jobs?metadata[{}]=x",
        "/v1/fine_tuning/jobs?metadata[x]={}",
    ],
)
def test_any_url_is_accepted_or_refused(client: TestClient, path: str) -> None:
    @fuzz
    @given(st.binary(max_size=20) | text.map(lambda t: t.encode("utf-8", "surrogatepass")))
    def send(raw: bytes) -> None:
        url = path.format(quote(raw, safe=""))
        accepted_or_refused(client.get(url))
        if "?" not in path:
            accepted_or_refused(client.delete(url))

    send()


@fuzz
@given(body=st.binary(max_size=300), boundary=st.sampled_from(["B", "", "B" * 80]))
def test_any_multipart_body_is_accepted_or_refused(client: TestClient, body: bytes, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    accepted_or_refused(client.post("/v1/files", content=b"--B\r\n" + body, headers=headers))
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="'
    accepted_or_refused(client.post("/v1/files", content=head + body, headers=headers))
