"""Takes the pictures of docs/dashboard: each page, light and dark, on a desktop and on a phone.

    python scripts/dashboard_pictures.py [--only overview job …]

Needs Debian's chromium. A scratch data directory is filled with objects of a small shop, whose jobs and answers are
played through the worker's side of the store; no model is loaded.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.web import work
from tests.web.evaluated import finish_with_verdict, make_evaluation
from tests.web.numbers.filled import card_of

from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.store.accounts.usage import Account
from tunesmith.store.rows import Counts
from tunesmith.web.site import create_site

TARGET = Path(__file__).resolve().parents[1] / "docs" / "dashboard"
SIZES = {"desktop": (1280, 860), "phone": (360, 740)}
BASE = "smollm2-135m-instruct"
DAY = 86_400
PRESETS = [("light", "en-US"), ("dark", "zh-CN")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of pages")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        settings = Settings(data_dir=Path(folder) / "data", organization="blue-kettle")
        store = open_store(settings)
        key = store.keys.ensure_first(settings.paths.api_key_file) or ""
        with _serving(settings, store) as url:
            pages = _fill(settings, store, url, key)
            chosen = {name: path for name, path in pages.items() if not only or name in only}
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                for theme, locale in PRESETS:
                    for size in SIZES:
                        _take(browser, url, key, chosen, (theme, locale, size))
                browser.close()
        store.close()


@contextmanager
def _serving(settings: Settings, store: Store) -> Iterator[str]:
    pool = Pool(settings)
    server = uvicorn.Server(uvicorn.Config(create_site(settings, store, pool), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    pool.close()


def _take(browser: Browser, url: str, key: str, pages: dict[str, str], look: tuple[str, str, str]) -> None:
    theme, locale, size = look
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
        locale=locale,
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"{url}/ui/sign-in")
    if "sign-in" in pages:
        page.screenshot(path=TARGET / f"sign-in-{size}-{theme}.png")
    page.fill("#key", key)
    page.press("#key", "Enter")
    page.wait_for_url(f"{url}/")
    for name, path in pages.items():
        if name == "sign-in":
            continue
        page.goto(url + path)
        page.wait_for_timeout(2500 if name in ("file", "new-job", "job") else 900)
        page.screenshot(path=TARGET / f"{name}-{size}-{theme}.png")
    context.close()


def _fill(settings: Settings, store: Store, url: str, key: str) -> dict[str, str]:
    """Fills the store; returns the pages to take, by name."""
    draw = random.Random(5)
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as api:
        good = _upload(api, "support-answers.jsonl", _rows(draw, 240))
        raw = _upload(api, "support-raw.jsonl", _broken(_rows(draw, 60)))
        _upload(api, "support-held-out.jsonl", _rows(draw, 30))
        evaluation = json.dumps(make_evaluation(60, hostile=False).to_json()).encode()
        verdict = finish_with_verdict(store, settings, evaluation)
        card_of(store, settings, verdict)
        running = _running(store, good, draw)
        eval_id = _eval(api, draw)
    _people(store, draw)
    job = store.jobs.get(verdict)
    model = "" if job is None else job.planned_model
    return {
        "sign-in": "",
        "overview": "/",
        "files": "/ui/files",
        "file": f"/ui/files/{raw}",
        "new-job": f"/ui/jobs/new?file={good}",
        "jobs": "/ui/jobs",
        "job": f"/ui/jobs/{running}",
        "models": "/ui/models",
        "model": f"/ui/models/{model}",
        "playground": f"/ui/playground?model={BASE}&model={model}",
        "evaluations": "/ui/evaluations",
        "verdict": f"/ui/evaluations/{verdict}",
        "eval": f"/ui/evaluations/evals/{eval_id}",
        "usage": "/ui/usage",
        "keys": "/ui/keys",
        "projects": "/ui/projects",
        "health": "/ui/health",
    }


def _rows(draw: random.Random, count: int) -> list[str]:
    system = "You are a support agent of the shop Blue Kettle. Answer in one or two friendly sentences."
    things = ["kettle", "teapot", "cup", "filter", "lid", "handle", "box", "stand"]
    rows = []
    for number in range(count):
        question = f"My {draw.choice(things)} number {number} arrived {'broken' if number % 3 else 'late'}. What now?"
        answer = f"I am sorry about that! Send us a photo of it and we replace it within {number % 5 + 2} days. "
        texts = (system, question, answer + "We also cover the postage. " * draw.randint(0, 9))
        roles = zip(("system", "user", "assistant"), texts, strict=True)
        rows.append(json.dumps({"messages": [{"role": role, "content": text} for role, text in roles]}))
    return rows


def _broken(rows: list[str]) -> list[str]:
    rows[6] = rows[6].replace('"role": "user"', '"role": "usr"')
    rows[11] = rows[11][:-2]
    rows[20] = rows[19]
    rows[25] = json.dumps({"messages": [{"role": "user", "content": "Hello?"}]})
    rows[44] = json.dumps({"messages": [{"role": "user", "content": 42}, {"role": "assistant", "content": "x"}]})
    return rows


def _upload(api: httpx.Client, name: str, rows: list[str]) -> str:
    content = ("\n".join(rows) + "\n").encode()
    return str(api.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)}).json()["id"])


def _running(store: Store, file_id: str, draw: random.Random) -> str:
    """A job in its middle, one that failed, and one that waits."""
    failed = work.running_job(store, training_file=file_id, suffix="faq-bot")
    work.train(store, failed, 1, 40, 300)
    store.queue.fail(failed, code="loss_not_a_number", message=_LOST)
    lease = work.running_job(store, training_file=file_id, validation_file=file_id, suffix="support-tone")
    total, made = 600, []
    for number in range(1, 361):
        loss = 0.5 + 2.1 * math.exp(-number / 90) + draw.gauss(0, 0.06)
        more = {"valid_loss": loss + 0.14, "valid_mean_token_accuracy": 0.86 - loss / 6} if number % 30 == 0 else {}
        made.append(work.step(number, total, loss, **more))
    store.queue.append(lease, made, total_steps=total, estimated_finish=int(time.time()) + 251)
    work.new_job(store, training_file=file_id, suffix="weekend-run")
    return lease.job_id


_LOST = (
    "The loss is not a number since step 41: the learning rate is too high for these rows. Train again with a "
    "learning_rate_multiplier of 1 or less."
)


def _eval(api: httpx.Client, draw: random.Random) -> str:
    output: JsonObject = {"type": "string_check", "input": "{{sample.output_text}}"}
    same = {**output, "name": "same answer", "reference": "{{item.answer}}", "operation": "eq"}
    names = {**output, "name": "names the city", "reference": "{{item.city}}", "operation": "ilike"}
    source = {"type": "custom", "item_schema": {"type": "object", "properties": {"answer": {"type": "string"}}}}
    body = {"name": "Weather, exact answers", "data_source_config": source, "testing_criteria": [same, names]}
    made = api.post("/v1/evals", json=body).json()
    for name, share in (("base", 0.3), ("tuned, 1 epoch", 0.6), ("tuned, 3 epochs", 0.8)):
        rows = [_sampled(number, share, draw) for number in range(120)]
        data = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
        run = api.post(f"/v1/evals/{made['id']}/runs", json={"name": name, "data_source": data}).json()
        while api.get(f"/v1/evals/{made['id']}/runs/{run['id']}").json()["status"] in ("queued", "in_progress"):
            time.sleep(0.1)
    return str(made["id"])


def _sampled(number: int, share: float, draw: random.Random) -> JsonObject:
    city = ("Moscow", "Paris", "Lagos", "Quito", "Osaka", "Oslo")[number % 6]
    answer = f"{city} is {'sunny' if number % 2 else 'rainy'} today."
    said = answer if draw.random() < share else f"In {city} I cannot say." if draw.random() < 0.5 else "Unknown."
    return {"item": {"city": city, "answer": answer}, "sample": {"output_text": said}}


def _people(store: Store, draw: random.Random) -> None:
    """Keys, projects, and what they have used in the last month."""
    project = store.projects.create("Support answers").id
    store.projects.create("Contract summaries")
    ids = [
        store.keys.create("laptop", role="member")[1].id,
        store.keys.create("nightly evals", role="read-only", project=project)[1].id,
        store.keys.create("CI", role="member", project=project)[1].id,
    ]
    now = int(time.time()) // 60 * 60
    for day in range(30):
        for key in ids if day % 7 != 2 else ():
            counts = (draw.randrange(20, 900), draw.randrange(10**4, 4 * 10**5), 0, draw.randrange(2000, 90_000))
            account = Account(now - day * DAY, "default", key, BASE)
            store.usage.add({account: Counts(*counts)}, {key: now - day * DAY})


if __name__ == "__main__":
    main()
