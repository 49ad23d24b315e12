"""A store with something of everything, whose numbers differ from one another."""

import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from starlette.testclient import TestClient
from tests.web.evaluated import BASE, finish_with_verdict
from tests.web.pages.test_files import lines, row, upload
from tests.web.pages.test_models import record
from tests.web.work import checkpoint, running_job, step

from tunesmith.export.cards.training_record import write_record
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.adapters import AdapterManifest, write_manifest
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.accounts.usage import Account
from tunesmith.store.rows import Counts

STEPS, TOTAL = 30, 1_470
CRITERIA: list[JsonObject] = [
    {"type": "string_check", "name": name, "input": "{{sample.output_text}}", "reference": reference, "operation": how}
    for name, reference, how in (("same", "{{item.answer}}", "eq"), ("short", "a", "ilike"))
]


@dataclass(frozen=True, slots=True)
class Filled:
    """The ids of what was put in, and where the tuned weights are."""

    settings: Settings
    file: str
    running: str
    done: str
    failed: str
    eval: str
    runs: tuple[str, str]
    adapter: Path


def fill(store: Store, settings: Settings, browser: TestClient) -> Filled:
    done = finish_with_verdict(store, settings)
    adapter = card_of(store, settings, done)
    broken = running_job(store, suffix="broken")
    store.queue.fail(broken, code="bad", message="Line 7: no answer. Run: tunesmith fix train.jsonl")
    running = _running(store, settings)
    _use(store)
    for number in range(3):
        kept = row(f"What is {number} and 1?")
        assert browser.post("/ui/playground/corrections", json=kept, headers={"hx-request": "1"}).status_code == 200
    eval_id, *runs = make_evals(browser, "/ui/api/v1")
    return Filled(
        settings, upload(browser, content()), running, done, broken.job_id, eval_id, (runs[0], runs[1]), adapter
    )


def card_of(store: Store, settings: Settings, job_id: str) -> Path:
    """The folder of the job's model, with what a model's page shows of it."""
    adapter, job = settings.paths.jobs / job_id / "final", store.jobs.get(job_id)
    assert job is not None
    assert job.fine_tuned_model is not None
    manifest = AdapterManifest(BASE, "f" * 16, "r", 8, 16.0, ("q_proj",), step=20, sha256="a" * 64)
    write_manifest(adapter, manifest)
    write_record(adapter, record(job.fine_tuned_model, job_id, "rows.jsonl"))
    return adapter


def _running(store: Store, settings: Settings) -> str:
    """30 of 1,470 steps, each with all that is measured, two hours to go, one checkpoint."""
    lease = running_job(store, suffix="at-work")
    made = []
    for number in range(1, STEPS + 1):
        more = {"valid_loss": 2.5 - number / 97, "valid_mean_token_accuracy": 0.31 + number / 190, "epoch": 2}
        more |= {"train_mean_token_accuracy": 0.4 + number / 110}
        made.append(step(number, TOTAL, 2 - number / 71, **more))
    ends = int(time.time()) + 2 * 3600 + 5 * 60 + 59
    store.queue.append(lease, made, total_steps=TOTAL, estimated_finish=ends)
    checkpoint(store, lease, settings.paths.jobs, 20)
    return lease.job_id


def _use(store: Store) -> None:
    key = store.keys.create("laptop")[1]
    minute = int(time.time()) // 60 * 60
    added = {
        Account(minute, "default", key.id, "base"): Counts(1_013, 2_000_017, 509, 1_000_031),
        Account(minute - 3 * 86_400, "default", key.id, "ft:model"): Counts(trained_tokens=68_101),
        Account(minute - 60 * 86_400, "default", key.id, "old"): Counts(requests=7),
    }
    store.usage.add(added, {})
    store.projects.create("Research")


def content() -> bytes:
    """Twenty rows: one is broken, two say what others say, some have a field too many."""
    rows = [row(f"Is shop {n} open?", f"Yes, shop {n} is." + " Come in." * n) for n in range(17)]
    broken = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistent", "content": "Hello"}]}
    return lines([*rows, broken, rows[2], {**rows[3], "note": 1}])


def make_evals(client: httpx.Client | TestClient, api: str) -> tuple[str, ...]:
    """An eval with two runs over forty rows: in the second five are gained and two are lost; their ids."""
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    body = {"name": "sums", "data_source_config": {"type": "custom", "item_schema": schema}}
    found = client.post(f"{api}/evals", json={**body, "testing_criteria": CRITERIA}).json()["id"]
    runs = f"{api}/evals/{found}/runs"
    ids = [client.post(runs, json=_run(wrong)).json()["id"] for wrong in (range(5), (10, 11))]
    deadline = time.monotonic() + 20
    while any(client.get(f"{runs}/{one}").json()["status"] != "completed" for one in ids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found, *ids


def _run(wrong: range | tuple[int, ...]) -> JsonObject:
    rows: list[JsonValue] = [
        {"item": {"answer": f"a{n}"}, "sample": {"output_text": "none" if n in wrong else f"a{n}"}} for n in range(40)
    ]
    source: JsonObject = {"type": "file_content", "content": rows}
    return {"data_source": {"type": "jsonl", "source": source}}
