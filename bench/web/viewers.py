"""What open pages of a running job cost its training and chats: `python bench/web/viewers.py`.

    python bench/web/viewers.py [--viewers 20] [--steps 60] [--answers 8] [--tokens 48] [--rounds 3] [--epochs 50]
        [--model smollm2-135m-instruct] [--file examples/weather-jokes.jsonl]

A server trains a job. In each round a job is measured without and with viewers, in turn: so many steps with nothing
else to do, then answers streamed one after the other while it goes on. A viewer is what a browser is to the server: it
loads the job's page, follows its live stream, and loads the page again every five seconds. All of them are in one
process of their own, four to a session. Printed are medians and ranges over the rounds, and the ratio of the medians.
For a base of another place set TUNESMITH_BASES, and name it with `--model`.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx
from openai import OpenAI
from openai.types.fine_tuning.job_create_params import Hyperparameters
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.job import HERE, server

RELOAD_SECONDS = 5.0
OF_SESSION = 4
LOOK_SECONDS = 0.1
MEASURES = {"steps a second": "steps/s", "first token": "s", "between tokens": "ms"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What viewers got: pages, and messages of live streams."""

    pages: int = 0
    messages: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60, help="measured of each job")
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50, help="of each job, which is cancelled once it is measured")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--file", type=Path, default=HERE.parent / "examples" / "weather-jokes.jsonl")
    parser.add_argument("--watch", nargs=3, metavar=("URL", "KEY", "JOB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        url, key, job = options.watch
        asyncio.run(watch(url, key, job, options.viewers))
        return
    found: dict[int, list[tuple[float, float, float]]] = {0: [], options.viewers: []}
    with server() as (_, client), options.file.open("rb") as file:
        training_file = client.files.create(file=file, purpose="fine-tune").id
        list(listen(client, options, 0))  # the base is loaded
        for turn in range(options.rounds):
            for viewers in (0, options.viewers) if turn % 2 == 0 else (options.viewers, 0):
                found[viewers].append(measured(client, training_file, viewers, options))
    Console(width=110).print(table(found, options.viewers))


def measured(
    client: OpenAI, training_file: str, viewers: int, options: argparse.Namespace
) -> tuple[float, float, float]:
    """Steps a second, median seconds to the first token, median milliseconds between tokens."""
    numbers: Hyperparameters = {"n_epochs": options.epochs, "batch_size": 1}
    job = client.fine_tuning.jobs.create(
        model=options.model, training_file=training_file, seed=1, hyperparameters=numbers
    ).id
    wait_for_step(client, job, 2)
    try:
        with open_viewers(client, job, viewers):
            rate = steps_a_second(client, job, options.steps)
            heard = [one for number in range(options.answers) for one in listen(client, options, number)]
        if client.fine_tuning.jobs.retrieve(job).status != "running":
            raise SystemExit("The job ended before the last answer: give more --epochs, or ask for fewer answers.")
    finally:
        client.fine_tuning.jobs.cancel(job)
    between = [gap for one in heard for gap in one[1:]]
    return rate, statistics.median(one[0] for one in heard), 1000 * statistics.median(between)


def newest_step(client: OpenAI, job: str) -> int:
    for event in client.fine_tuning.jobs.list_events(job, limit=5).data:
        if event.type == "metrics":
            return int(event.data["step"])  # type: ignore[index]
    return 0


def wait_for_step(client: OpenAI, job: str, step: int) -> tuple[int, float]:
    """The first step from this one on that is seen, and when."""
    while (found := newest_step(client, job)) < step:
        if (status := client.fine_tuning.jobs.retrieve(job).status) in ("failed", "cancelled", "succeeded"):
            raise SystemExit(f"The job was {status} at step {found}: give more --epochs, or fewer --steps.")
        time.sleep(LOOK_SECONDS)
    return found, time.monotonic()


def steps_a_second(client: OpenAI, job: str, steps: int) -> float:
    first, began = wait_for_step(client, job, newest_step(client, job) + 1)
    last, ended = wait_for_step(client, job, first + steps)
    return (last - first) / (ended - began)


def listen(client: OpenAI, options: argparse.Namespace, number: int) -> Iterator[list[float]]:
    """Seconds to the first token of an answer, and from each to the next."""
    asked = time.monotonic()
    stream = client.chat.completions.create(
        model=options.model,
        messages=[{"role": "user", "content": f"Story {number}: a keeper of a lighthouse finds a letter. Go on."}],
        max_tokens=options.tokens,
        temperature=1.0,
        seed=number,
        stream=True,
    )
    times = [time.monotonic() for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    if times:
        yield [times[0] - asked, *(later - sooner for sooner, later in pairwise(times))]


@contextmanager
def open_viewers(client: OpenAI, job: str, viewers: int) -> Iterator[None]:
    """So many pages of the job are open; at the end they must have seen it."""
    if not viewers:
        yield
        return
    url = str(client.base_url).removesuffix("/v1/")
    command = [sys.executable, __file__, "--viewers", str(viewers), "--watch", url, client.api_key, job]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "open\n":
            raise SystemExit("The viewers could not open the job's page.")
        yield
    finally:
        said, _ = process.communicate("\n", timeout=30)
    seen = Seen(**json.loads(said.splitlines()[-1]))
    if min(seen.pages, seen.messages) < viewers:
        raise SystemExit(f"The viewers did not see the job: {seen}")
    print(f"{viewers} viewers got {seen.pages} pages and {seen.messages} messages", flush=True)


async def watch(url: str, key: str, job: str, viewers: int) -> None:
    """The viewers' own process: says when all are open, ends with a line of its input, and says what was seen."""
    counts = {"pages": 0, "messages": 0}
    sessions = [await signed_in(url, key) for _ in range(-(-viewers // OF_SESSION))]
    tabs = [asyncio.create_task(view(client, job, counts)) for client in itertools.islice(_each(sessions), viewers)]
    while counts["messages"] < viewers:
        await asyncio.sleep(0.05)
        for one in tabs:
            if one.done():
                one.result()
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for one in tabs:
        one.cancel()
    await asyncio.gather(*tabs, return_exceptions=True)
    for client in sessions:
        await client.aclose()
    print(json.dumps(counts), flush=True)


def _each(sessions: list[httpx.AsyncClient]) -> Iterator[httpx.AsyncClient]:
    for client in sessions:
        yield from itertools.repeat(client, OF_SESSION)


async def signed_in(url: str, key: str) -> httpx.AsyncClient:
    client = httpx.AsyncClient(base_url=url, timeout=60)
    answer = await client.post("/ui/sign-in", data={"key": key})
    if answer.status_code != 303:
        raise SystemExit(f"Signing in was answered with {answer.status_code}.")
    return client


async def view(client: httpx.AsyncClient, job: str, counts: dict[str, int]) -> None:
    """One tab: the page, its stream, and again after five seconds."""
    while True:
        (await client.get(f"/ui/jobs/{job}")).raise_for_status()
        counts["pages"] += 1
        try:
            async with asyncio.timeout(RELOAD_SECONDS), client.stream("GET", f"/ui/live/jobs/{job}") as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    counts["messages"] += line.startswith('data: {"curves"')
        except TimeoutError:
            continue


def table(found: dict[int, list[tuple[float, float, float]]], viewers: int) -> Table:
    shown = Table("measure", "no viewer", f"{viewers} viewers", "ratio", title="median (lowest – highest)")
    for place, (name, unit) in enumerate(MEASURES.items()):
        sides = [[one[place] for one in found[count]] for count in (0, viewers)]
        medians = [statistics.median(side) for side in sides]
        cells = [
            f"{median:.3g} ({min(side):.3g} – {max(side):.3g}) {unit}"
            for median, side in zip(medians, sides, strict=True)
        ]
        shown.add_row(name, *cells, f"{medians[1] / medians[0]:.3f}")
    return shown


if __name__ == "__main__":
    main()
