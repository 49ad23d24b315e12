"""A file may make its check endless, take all memory or crash it: the server lives, and the file is `error`."""

import json
import os
import time
from itertools import pairwise
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import chat_rows

from tunesmith.api.app import create_app
from tunesmith.api.background import file_checks
from tunesmith.check.isolated.children import CheckChildren, CheckDied, CheckTimedOut, Verdict
from tunesmith.check.isolated.task import CheckTask
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import NewFile, Store

CRASHING = """
import os, time

class Abort:
    def analyse(self, data, batch, result):
        os.abort()

class Loop:
    def analyse(self, data, batch, result):
        while True:
            time.sleep(0.01)

class Hoard:
    def analyse(self, data, batch, result):
        kept = []
        while True:
            kept.append(bytearray(1 << 22))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(chat_rows(10))
    return path


@pytest.fixture
def analysers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that no check survives, where a new child finds them."""
    (tmp_path / "no_check_survives.py").write_text(CRASHING, "utf-8")
    path = [str(tmp_path), *([before] if (before := os.environ.get("PYTHONPATH")) else [])]
    monkeypatch.setenv("PYTHONPATH", ":".join(path))


def task(data: Path, analyser: str = "", seconds: float = 20.0) -> CheckTask:
    names = (f"no_check_survives:{analyser}",) if analyser else ()
    return CheckTask(data, analyser or "sound", data.parent / "kept", names, seconds, 1 << 30)


@pytest.mark.parametrize(
    ("analyser", "seconds", "error", "words"),
    [
        ("Abort", 20.0, CheckDied, "SIGABRT"),
        ("Hoard", 20.0, CheckDied, "memory"),
        ("Loop", 0.5, CheckTimedOut, "longer"),
    ],
)
def test_check_that_cannot_end_ends_its_child_alone(
    data: Path, analysers: None, analyser: str, seconds: float, error: type[Exception], words: str
) -> None:
    children = CheckChildren()
    fresh(children)
    with pytest.raises(error, match=words):
        children.check(task(data, analyser, seconds), wait=1)
    verdict = children.check(task(data), wait=1)
    assert verdict is not None
    assert verdict.details is None
    assert verdict.report["examples"] == 10
    fresh(children)


def fresh(children: CheckChildren) -> None:
    """Ends the idle children, which have the environment of an earlier test."""
    from tunesmith.check.isolated import children as module

    module._end_idle()


def test_small_files_share_one_child(data: Path) -> None:
    children = CheckChildren()
    found: list[Verdict | None] = []
    fresh(children)
    moments = [time.perf_counter()]
    for _ in range(6):
        found.append(children.check(task(data), wait=1))
        moments.append(time.perf_counter())
    assert all(isinstance(one, Verdict) for one in found)
    first, others = moments[1] - moments[0], moments[6] - moments[1]
    assert others < 2.5 * first  # the first waits for its interpreter; five of them would take five times as long


def wait_for_verdict(client: TestClient, file_id: str) -> dict[str, str]:
    deadline = time.monotonic() + 60
    while (found := client.get(f"/v1/files/{file_id}").json())["status"] == "uploaded":
        assert time.monotonic() < deadline
        assert client.get("/healthz").status_code == 200
        time.sleep(0.05)
    return dict(found)


def branching_row() -> bytes:
    """A tool whose `definitions` each lead to the next one three times: 3**20 ways to the last."""
    names = [f"level {n}" for n in range(20)]
    definitions: dict[str, object] = {
        here: {"oneOf": [{"$ref": f"#/definitions/{there}"} for _ in range(3)]} for here, there in pairwise(names)
    }
    definitions[names[-1]] = {"type": "boolean"}
    first = {"$ref": f"#/definitions/{names[0]}"}
    parameters = {"type": "object", "properties": {"city": first}, "definitions": definitions}
    called = {"name": "look", "arguments": '{"city": 4}'}
    row = {
        "messages": [
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": called}]},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": parameters}}],
    }
    return json.dumps(row).encode() + b"\n"


def test_row_whose_schema_branches_is_an_error_and_not_checked_again(
    settings: Settings, store: Store, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks, "INLINE_SECONDS", 1.0)
    quick = settings.model_copy(update={"check_seconds": 2.0})
    headers = {"Authorization": f"Bearer {key}"}
    with TestClient(create_app(quick, store, Pool(quick)), headers=headers) as client:
        sent = client.post(
            "/v1/files", files={"file": ("a.jsonl", branching_row() * 10)}, data={"purpose": "fine-tune"}
        )
        found = wait_for_verdict(client, sent.json()["id"])
    assert found["status"] == "error"
    assert store.files.unchecked() == []
    assert not list(settings.paths.checking.iterdir())


def test_check_that_ran_out_of_memory_says_which_settings_count(settings: Settings, store: Store, key: str) -> None:
    tight = settings.model_copy(update={"check_memory_mib": 1})
    headers = {"Authorization": f"Bearer {key}"}
    with TestClient(create_app(tight, store, Pool(tight)), headers=headers) as client:
        sent = client.post("/v1/files", files={"file": ("a.jsonl", chat_rows(4000))}, data={"purpose": "fine-tune"})
        found = wait_for_verdict(client, sent.json()["id"])
    assert found["status"] == "error"
    assert "check_memory_mib" in found["status_details"]


@pytest.mark.parametrize(("cut_off", "status"), [(1, "processed"), (2, "error"), (7, "error")])
def test_file_whose_check_ended_the_server_twice_is_not_checked_again(
    app: FastAPI, settings: Settings, store: Store, rows: bytes, cut_off: int, status: str
) -> None:
    row = store.files.create(store.blobs.write([rows]), NewFile(purpose="fine-tune", filename="left.jsonl"))
    settings.paths.checking.mkdir(parents=True)
    (settings.paths.checking / row.id).write_bytes(b"." * cut_off)
    with TestClient(app):
        deadline = time.monotonic() + 30
        while (found := store.files.get(row.id)) is not None and found.status == "uploaded":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert found is not None
    assert found.status == status
    assert (f"{cut_off} times" in (found.status_details or "")) == (status == "error")
