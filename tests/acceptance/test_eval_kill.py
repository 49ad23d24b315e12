"""A real server, kill -9 in the middle of an eval's run: it goes on, and asks no row again that was answered.

The model is another process's (a small stand-in for vLLM), which outlives the server and counts what it is asked.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fake_vllm import BASE, FakeVllm, running
from tests.servers import wait_until

from tunesmith.api.evals.runner import BATCHES
from tunesmith.render.renderer import Renderer
from tunesmith.settings import Settings
from tunesmith.store import open_store
from tunesmith.store.evals.rows import ItemRow
from tunesmith.store.objects.pagination import Cursor

Json = dict[str, Any]
ROWS, RUNNING = 60, 4
SECONDS = 0.03  # of an answer
SAME: Json = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
JUDGE: Json = {"type": "score_model", "name": "judge", "model": BASE}
JUDGE["input"] = [{"role": "user", "content": "Judge row {{item.row}}."}]


class Slow(FakeVllm):
    async def stream(self, body: Json, tokens: list[int]) -> AsyncIterator[str]:
        await asyncio.sleep(SECONDS)
        async for chunk in super().stream(body, tokens):
            yield chunk


@pytest.fixture
def model(renderer: Renderer) -> Iterator[Slow]:
    fake = Slow()
    fake.answers[BASE] = [*renderer.encode("1"), min(renderer.eos_ids)]
    with running(fake):
        yield fake


@contextmanager
def server(directory: Path, model: Slow) -> Iterator[tuple[httpx.Client, "subprocess.Popen[bytes]"]]:
    data_dir, ready = directory / "data", directory / "ready.json"
    ready.unlink(missing_ok=True)
    given = {
        "TUNESMITH_DATA_DIR": str(data_dir),
        "TUNESMITH_LEASE_SECONDS": "1",
        "TUNESMITH_CHAT_RUNNING": str(RUNNING),
        "TUNESMITH_SERVE_REMOTE": json.dumps({BASE: model.url}),
    }
    command = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0", "--no-worker", "--ready-file", str(ready)]
    with (directory / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=os.environ | given, stdout=log, stderr=log)
    try:
        wait_until(ready.exists, 60, "the server's start")
        key = (data_dir / "api-key").read_text("utf-8").strip()
        url = json.loads(ready.read_text("utf-8"))["base_url"]
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
            yield client, process
    finally:
        process.kill()
        process.wait(20)


def answered(data_dir: Path, run: Json) -> dict[str, ItemRow]:
    """What is on disk while no server runs."""
    store = open_store(Settings(data_dir=data_dir))
    row = store.runs.get(run["eval_id"], run["id"])
    found = store.runs.items(row, Cursor(ROWS, None, "asc")).data
    store.close()
    return {item.id: item for item in found}


def asked(model: Slow, renderer: Renderer) -> Counter[str]:
    """How often each question came."""
    return Counter(renderer.decode(body["prompt"]) for body in model.bodies)


def test_a_killed_run_asks_no_answered_row_again(tmp_path: Path, model: Slow, renderer: Renderer) -> None:
    rows = [{"item": {"row": number, "answer": "1"}} for number in range(ROWS)]
    data = {
        "type": "completions",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "Answer row {{item.row}}."}]},
        "model": BASE,
        "sampling_params": {"temperature": 0},
    }
    config = {"type": "custom", "item_schema": {"type": "object"}}
    kept: dict[str, ItemRow] = {}
    with server(tmp_path, model) as (client, process):
        made = client.post("/evals", json={"data_source_config": config, "testing_criteria": [SAME, JUDGE]})
        run = client.post(f"/evals/{made.json()['id']}/runs", json={"data_source": data}).json()
        kill_at(1, client, process, run)
    kept = answered_since(kept, tmp_path / "data", run)
    with server(tmp_path, model) as (client, process):
        kill_at(max(30, len(kept) + 1), client, process, run)  # rows are saved some at a time
    with server(tmp_path, model) as (client, _):
        ended = at_end(client, run)
    kept = answered_since(kept, tmp_path / "data", run)
    assert sorted(item.number for item in kept.values()) == list(range(ROWS))
    assert ended["result_counts"] == {"total": ROWS, "passed": ROWS, "failed": 0, "errored": 0}
    [usage] = ended["per_model_usage"]
    assert usage["invocation_count"] == 2 * ROWS  # one answer and one judgement a row: nothing is counted twice
    questions = asked(model, renderer)
    assert len(questions) == 2 * ROWS
    again = sum(questions.values()) - 2 * ROWS
    assert again <= 2 * BATCHES * RUNNING  # only what was under way at a kill, and had no answer


def kill_at(count: int, client: httpx.Client, process: "subprocess.Popen[bytes]", run: Json) -> None:
    """Once `count` rows are done; some more are under way then."""
    wait_until(lambda: done(shown(client, run)) >= count, 60, f"{count} rows")
    assert shown(client, run)["result_counts"]["errored"] == 0, client.get(items(run)).json()["data"][0]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)


def items(run: Json) -> str:
    return f"/evals/{run['eval_id']}/runs/{run['id']}/output_items"


def at_end(client: httpx.Client, run: Json) -> Json:
    wait_until(lambda: shown(client, run)["status"] == "completed", 60, "the end of the run")
    return shown(client, run)


def shown(client: httpx.Client, run: Json) -> Json:
    found: Json = client.get(f"/evals/{run['eval_id']}/runs/{run['id']}").json()
    return found


def done(run: Json) -> int:
    counts = run["result_counts"]
    return int(counts["passed"] + counts["failed"] + counts["errored"])


def answered_since(kept: dict[str, ItemRow], data_dir: Path, run: Json) -> dict[str, ItemRow]:
    """What was answered before stays as it was, id and time and all."""
    now = answered(data_dir, run)
    assert all(now.get(name) == item for name, item in kept.items())
    assert len(now) > len(kept)
    return now
