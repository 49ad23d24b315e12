"""The real application over a real SQLite store; only the worker is played, through the store's own worker side."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient
from tests.databases import Migrated

from tunesmith.api.app import create_app
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import (
    JobOutcome,
    JobStatus,
    KeyRow,
    NewCheckpoint,
    NewEvent,
    NewFile,
    NewJob,
    Store,
    open_store,
)

Json = dict[str, Any]
Upload = Callable[..., Json]
Ask = Callable[..., Response]  # keyword arguments: fields of the request
Refused = Callable[..., Json]
Valid = Callable[[str, Json], None]

SCHEMAS = json.loads((Path(__file__).parent / "openai_schemas.json").read_text("utf-8"))
_ERROR = SCHEMAS["components"]["schemas"]["EvalApiError"]
SCHEMAS["components"]["schemas"]["EvalApiError"] = {"anyOf": [_ERROR, {"type": "null"}]}  # null where there is none
NULL_ON_THE_REAL_WIRE = {"expires_at", "status_details", "first_id", "last_id", "data"}  # the description says string


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The real base, loaded once for all tests that let it answer."""
    pool = Pool(Settings(data_dir=tmp_path_factory.mktemp("pool"), serve_weights="float32"))  # no trial of 16 bits
    yield pool
    pool.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", organization="acme", max_file_bytes=2_000_000)


@pytest.fixture
def store(settings: Settings, migrated: Migrated) -> Iterator[Store]:
    store = open_store(migrated(settings))
    yield store
    store.close()


@pytest.fixture
def key(store: Store) -> str:
    return store.keys.create("tests")[0]


def key_row(store: Store, key: str) -> KeyRow:
    row = store.keys.verify(key)
    assert row is not None
    return row


@pytest.fixture
def app(settings: Settings, store: Store) -> FastAPI:
    return create_app(settings, store, Pool(settings))


@pytest.fixture
def client(app: FastAPI, key: str) -> Iterator[TestClient]:
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def rows() -> bytes:
    return chat_rows(10)


def chat_rows(count: int) -> bytes:
    lines = (
        {
            "messages": [
                {"role": "system", "content": "You answer with a weather joke."},
                {"role": "user", "content": f"How is the weather in city number {n}?"},
                {"role": "assistant", "content": f"Cloudy with a chance of {n} puns."},
            ]
        }
        for n in range(count)
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


@pytest.fixture
def upload(client: TestClient, rows: bytes) -> Upload:
    def send(content: bytes = rows, name: str = "train.jsonl", purpose: str = "fine-tune", **fields: str) -> Json:
        answer = client.post("/v1/files", data={"purpose": purpose, **fields}, files={"file": (name, content)})
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    return send


@pytest.fixture
def create(client: TestClient, upload: Upload) -> Callable[..., Json]:
    """A job over ten rows; keyword arguments go into the request."""

    def send(**fields: Any) -> Json:
        body = {
            "model": "gpt-3.5-turbo",
            "training_file": fields.pop("training_file", None) or upload()["id"],
            **fields,
        }
        answer = client.post("/v1/fine_tuning/jobs", json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    return send


@pytest.fixture
def finished_job(client: TestClient, store: Store, settings: Settings, create: Callable[..., Json]) -> Json:
    """A job that a worker has brought to its end, as the API shows it, with its `checkpoints`."""
    job_id = create(suffix="weather")["id"]
    _, lease = store.queue.claim("tests", [JobStatus.VALIDATING], 60) or pytest.fail("nothing to claim")
    numbers: JsonObject = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 2.0}
    store.queue.set_status(lease, JobStatus.QUEUED, hyperparameters=numbers)
    _, lease = store.queue.claim("tests", [JobStatus.QUEUED], 60) or pytest.fail("nothing to claim")
    store.queue.set_status(lease, JobStatus.RUNNING, [NewEvent("Fine-tuning job started", data=None)])
    metrics: JsonObject = {"step": 1, "total_steps": 30, "train_loss": 1.5, "train_mean_token_accuracy": 0.25}
    store.queue.append(
        lease, [NewEvent("Step 1/30: training loss=1.50", type="metrics", data=metrics, step=1)], total_steps=30
    )
    for step in (10, 20, 30):
        adapter = settings.paths.jobs / job_id / "checkpoints" / f"step-{step:06}"
        adapter.mkdir(parents=True)
        point: JsonObject = {"train_loss": 0.5, "train_mean_token_accuracy": 0.75}
        store.queue.add_checkpoint(lease, NewCheckpoint(step, adapter, point))
    result = store.blobs.write([b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.5,0.25,,\n"])
    end = [NewEvent("The job has successfully completed")]
    store.queue.finish(lease, JobOutcome(adapter, trained_tokens=6810, result=result, events=end))
    job: Json = client.get(f"/v1/fine_tuning/jobs/{job_id}").json()
    job["checkpoints"] = client.get(f"/v1/fine_tuning/jobs/{job_id}/checkpoints").json()["data"]
    return job


@pytest.fixture
def tuned(store: Store, settings: Settings, random_adapter: Callable[[Path, int], Path]) -> str:
    """A tuned model whose adapter holds random tensors; its name."""
    file_id = store.files.create(store.blobs.write([b"{}\n"]), NewFile(purpose="fine-tune", filename="x.jsonl")).id
    auto: JsonObject = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.0}
    job = store.jobs.create(
        NewJob("smollm2-135m-instruct", "smollm2-135m-instruct", file_id, "acme", 1, auto, {"type": "supervised"})
    )
    for status in (JobStatus.VALIDATING, JobStatus.QUEUED):
        _, lease = store.queue.claim("tests", [status], 60) or pytest.fail("nothing to claim")
        after = JobStatus.QUEUED if status is JobStatus.VALIDATING else JobStatus.RUNNING
        store.queue.set_status(lease, after)
    adapter = random_adapter(settings.paths.jobs / job.id / "final", 2)
    done = store.queue.finish(lease, JobOutcome(adapter, trained_tokens=1, result=None))
    assert done.fine_tuned_model is not None
    return done.fine_tuned_model


@pytest.fixture
def valid() -> Valid:
    """Checks a value against a schema of OpenAI's description, apart from the nulls that real answers have."""

    def check(name: str, value: Json) -> None:
        document = {**SCHEMAS, "$schema": "https://json-schema.org/draft/2020-12/schema"}
        document["$ref"] = f"#/components/schemas/{name}"
        jsonschema_rs.validate(document, _without_known_nulls(value))

    return check


def _without_known_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_known_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("object") == "list" and value.get("data") == []:
        value = {key: item or "" if key in ("first_id", "last_id") else item for key, item in value.items()}
    return {
        key: _without_known_nulls(item)
        for key, item in value.items()
        if not (item is None and key in NULL_ON_THE_REAL_WIRE)
    }


@pytest.fixture
def refused() -> Refused:
    """Asserts the whole envelope and gives back its inside."""

    def check(answer: Response, status: int = 400) -> Json:
        assert answer.status_code == status, answer.text
        body = answer.json()
        assert list(body) == ["error"]
        assert list(body["error"]) == ["message", "type", "param", "code"]
        error: Json = body["error"]
        return error

    return check
