"""The application with its runs of evals, over the real base, and the shortest ways to an eval and a run."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

Json = dict[str, Any]
MakeEval = Callable[..., Json]
MakeRun = Callable[..., Json]
Done = Callable[[Json], Json]
SECONDS = 60
BASE = "smollm2-135m-instruct"
SAME: Json = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
CUSTOM: Json = {"type": "custom", "item_schema": {"type": "object", "properties": {"answer": {"type": "string"}}}}
ROWS: list[Json] = [
    {"item": {"answer": "4"}, "sample": {"output_text": "4"}},
    {"item": {"answer": "5"}, "sample": {"output_text": "6"}},
]


def inline(*rows: Json) -> Json:
    return {"type": "jsonl", "source": {"type": "file_content", "content": list(rows or ROWS)}}


def sampled(rows: list[Json], **changes: Any) -> Json:
    """Rows that the base answers, in few tokens."""
    return {
        "type": "completions",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "Say {{item.answer}}."}]},
        "model": BASE,
        "sampling_params": {"max_completion_tokens": 4, "temperature": 0},
        **changes,
    }


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", organization="acme", max_file_bytes=2_000_000, serve_weights="float32")


@pytest.fixture
def client(settings: Settings, store: Store, pool: Pool, key: str) -> Iterator[TestClient]:
    with TestClient(create_app(settings, store, pool), headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def make_eval(client: TestClient) -> MakeEval:
    def send(*criteria: Json, **fields: Any) -> Json:
        body = {"data_source_config": CUSTOM, "testing_criteria": list(criteria) or [SAME], **fields}
        answer = client.post("/v1/evals", json=body)
        assert answer.status_code == 201, answer.text
        found: Json = answer.json()
        return found

    return send


@pytest.fixture
def make_run(client: TestClient) -> MakeRun:
    def send(eval_id: str, data_source: Json | None = None, **fields: Any) -> Json:
        answer = client.post(f"/v1/evals/{eval_id}/runs", json={"data_source": data_source or inline(), **fields})
        assert answer.status_code == 201, answer.text
        found: Json = answer.json()
        return found

    return send


@pytest.fixture
def done(client: TestClient) -> Done:
    """The run at its end."""

    def wait(run: Json) -> Json:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            found: Json = client.get(f"/v1/evals/{run['eval_id']}/runs/{run['id']}").json()
            if found["status"] not in ("queued", "in_progress"):
                return found
            time.sleep(0.02)
        pytest.fail(f"the run has not ended: {found}")

    return wait


@pytest.fixture
def items(client: TestClient) -> Callable[..., list[Json]]:
    def read(run: Json, **query: Any) -> list[Json]:
        url = f"/v1/evals/{run['eval_id']}/runs/{run['id']}/output_items"
        answer = client.get(url, params=query)
        assert answer.status_code == 200, answer.text
        found: list[Json] = answer.json()["data"]
        return found

    return read
