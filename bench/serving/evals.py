"""Measures runs of evals: beside the engine alone, and how late chats' first tokens come meanwhile.

    python bench/serving/evals.py [--rows 1000] [--tokens 32] [--chats 60]

The first part gives the same rows to the engine, all at once, and to a run of an eval, in one process and in turns of
`--rounds`; it prints rows a second, processor time a row, and the ratio of both. To the engine the first are chats,
after which a run's steps are short for some seconds: the run begins when those are over. The second part starts a
server, streams chats one after another while it is idle and while a run goes on, by turns, and prints the median and
95th percentile of the time to the first token.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog
from openai import OpenAI
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.job import server

from tunesmith.api.app import create_app
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.serve.chat.answer import Reply, start_chat
from tunesmith.serve.chat.request import chat_request
from tunesmith.serve.engine.scheduler import POLITE_SECONDS
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import open_store
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat

BASE = "smollm2-135m-instruct"
QUESTION = "Story {}: a lighthouse keeper finds a letter in a bottle. Tell what it says."
LONG = "You are the assistant of a small weather office. " * 12  # a system message, as chats have
SAME: JsonObject = {"type": "string_check", "name": "same", "input": "{{sample.output_text}}", "operation": "like"}
SAME["reference"] = "{{item.number}}"
WAITING = 200  # requests that the engine's own queue has room for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--chats", type=int, default=60)
    parser.add_argument("--gap", type=float, default=0.3, help="seconds between two chats")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if options.rows:
        throughput(options)
    if options.chats:
        first_tokens(options)


def throughput(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
        settings = Settings(data_dir=Path(folder))
        base = pull(resolve_base(BASE, settings), settings)
        store, pool = open_store(settings), Pool(settings)
        key = store.keys.create("bench")[0]
        loaded = pool.open(base, base_name=BASE)
        alone(loaded, 32, options.tokens)
        with TestClient(create_app(settings, store, pool), headers={"Authorization": f"Bearer {key}"}) as client:
            through_run(client, 32, options.tokens)
            found = []
            for _ in range(options.rounds):
                first = timed(partial(alone, loaded), options)
                time.sleep(POLITE_SECONDS + 1)
                found.append((first, timed(partial(through_run, client), options)))
        pool.close()
        store.close()
    bare, run = (statistics.median(one[side][0] for one in found) for side in (0, 1))
    print(f"{options.rows} rows: engine alone {bare:.2f} rows/s, run of an eval {run:.2f}: {100 * run / bare:.0f} %")
    bare, run = (statistics.median(one[side][1] for one in found) for side in (0, 1))
    print(f"processor time a row: {bare:.1f} ms, {run:.1f} ms: {100 * bare / run:.0f} %")


def timed(go: Callable[[int, int], float], options: argparse.Namespace) -> tuple[float, float]:
    """Rows a second, and milliseconds of processor time of a row."""
    before = time.process_time()
    found = go(options.rows, options.tokens)
    return found, 1000 * (time.process_time() - before) / options.rows


def alone(loaded: LoadedModel, rows: int, tokens: int) -> float:
    """Rows a second of the engine, whose queue always has some."""
    started = time.monotonic()
    under_way: deque[Reply] = deque()
    for number in range(rows):
        if len(under_way) >= WAITING:
            list(under_way.popleft())
        body: JsonObject = {"model": BASE, "messages": messages(number), "max_tokens": tokens, "temperature": 0}
        under_way.append(start_chat(chat_request(read(Chat, body)), loaded, tokens))
    for reply in under_way:
        list(reply)
    return rows / (time.monotonic() - started)


def messages(number: int) -> list[JsonValue]:
    return [{"role": "user", "content": QUESTION.format(number)}]


def data_source(rows: int, tokens: int) -> JsonObject:
    content: list[JsonValue] = [{"item": {"number": str(number)}} for number in range(rows)]
    template: list[JsonValue] = [{"role": "user", "content": QUESTION.format("{{item.number}}")}]
    return {
        "type": "completions",
        "model": BASE,
        "source": {"type": "file_content", "content": content},
        "input_messages": {"type": "template", "template": template},
        "sampling_params": {"temperature": 0, "max_completion_tokens": tokens},
    }


def through_run(client: TestClient, rows: int, tokens: int) -> float:
    config: JsonObject = {"type": "custom", "item_schema": {"type": "object"}}
    made = client.post("/v1/evals", json={"data_source_config": config, "testing_criteria": [SAME]}).json()
    url = f"/v1/evals/{made['id']}/runs"
    started = time.monotonic()
    run = client.post(url, json={"data_source": data_source(rows, tokens)}).json()
    while run["status"] in ("queued", "in_progress"):
        time.sleep(0.5)
        run = client.get(f"{url}/{run['id']}").json()
    seconds = time.monotonic() - started
    counts = run["result_counts"]
    if run["status"] != "completed" or counts["errored"]:
        raise SystemExit(f"The run did not go well: {run['status']}, {counts}, {run['error']}")
    return rows / seconds


def first_tokens(options: argparse.Namespace) -> None:
    idle: list[float] = []
    busy: list[float] = []
    with server() as (_, client):
        for number in range(5):
            first_token(client, -number)
        for part in range(3):
            start = part * options.chats
            idle += [first_token(client, start + one, options.gap) for one in range(options.chats // 3)]
            eval_id, run_id = endless(client, options.tokens)
            busy += [first_token(client, start + 500 + one, options.gap) for one in range(options.chats // 3)]
            run = client.evals.runs.cancel(run_id, eval_id=eval_id)
            if run.status != "canceled" or not run.result_counts.passed + run.result_counts.failed:
                raise SystemExit("The run did not go on beside the chats: ask for more rows.")
    for name, value in (("idle", idle), ("beside a run", busy)):
        print(f"first token, {name}: median {1000 * statistics.median(value):.0f} ms, 95th {1000 * _p95(value):.0f} ms")
    print(f"beside a run the 95th percentile is {_p95(busy) / _p95(idle):.2f} times the idle one")


def endless(client: OpenAI, tokens: int) -> tuple[str, str]:
    """A run that goes on for longer than the chats; its batch is full when this returns."""
    made = client.evals.create(
        data_source_config={"type": "custom", "item_schema": {"type": "object"}},
        testing_criteria=[SAME],  # type: ignore[list-item]
    )
    run = client.evals.runs.create(made.id, data_source=data_source(9000, tokens))  # type: ignore[arg-type]
    while client.evals.runs.retrieve(run.id, eval_id=made.id).result_counts.failed < 10:
        time.sleep(0.2)
    return made.id, run.id


def first_token(client: OpenAI, number: int, gap: float = 0.0) -> float:
    time.sleep(gap)
    started = time.monotonic()
    stream = client.chat.completions.create(
        model=BASE,
        messages=[{"role": "system", "content": f"{number} {LONG}"}, {"role": "user", "content": "Will it rain?"}],
        max_tokens=8,
        stream=True,
    )
    first = 0.0
    for chunk in stream:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.monotonic() - started
    return first


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


if __name__ == "__main__":
    main()
