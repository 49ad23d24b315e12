"""Measures the time between tokens, idle and while a job trains.

    python bench/serving/beside.py [--streams 1 4] [--answers 12] [--tokens 48]

Starts a server, lets clients stream answers of the base, then starts a job and does the same while it trains. Prints
the median and 99th percentile of the seconds between two tokens of a stream, and to the first token.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from openai import OpenAI
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from bench.job import HERE, server

MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class Heard:
    first: float
    between: tuple[float, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--answers", type=int, default=12, help="of each case, over all streams")
    parser.add_argument("--tokens", type=int, default=48)
    options = parser.parse_args()
    table = Table("streams", "machine", "first token, median", "between tokens, median", "99th percentile", "tokens/s")
    with server() as (_, client):
        listen(client, 0, options.tokens)  # the base is loaded
        idle = {streams: many(client, streams, options) for streams in options.streams}
        job = train(client)
        busy = {streams: many(client, streams, options) for streams in options.streams}
        status = client.fine_tuning.jobs.retrieve(job).status
        client.fine_tuning.jobs.cancel(job)
    if status != "running":
        raise SystemExit(f"The job was {status} before the last answer: ask for fewer answers.")
    for streams in options.streams:
        for name, (heard, seconds) in (("idle", idle[streams]), ("training", busy[streams])):
            table.add_row(str(streams), name, *_figures(heard, seconds))
    Console().print(table)
    for streams in options.streams:
        worst = [_percentile(_between(heard), 99) for heard, _ in (idle[streams], busy[streams])]
        print(f"{streams} streams: the 99th percentile while training is {worst[1] / worst[0]:.1f} times the idle one")


def many(client: OpenAI, streams: int, options: argparse.Namespace) -> tuple[list[Heard], float]:
    started = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:
        heard = [*pool.map(lambda number: listen(client, number, options.tokens), range(options.answers))]
    return heard, time.monotonic() - started


def listen(client: OpenAI, number: int, tokens: int) -> Heard:
    question = f"Story {number}: a lighthouse keeper finds a letter in a bottle. Tell it at length."
    started = time.monotonic()
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        max_tokens=tokens,
        temperature=1.0,
        seed=number,
        stream=True,
    )
    times = [time.monotonic() for chunk in stream if chunk.choices[0].delta.content]
    return Heard(times[0] - started, tuple(later - sooner for sooner, later in pairwise(times)))


def train(client: OpenAI) -> str:
    """A job that has made its first step and goes on for long enough."""
    with (HERE.parent / "examples" / "weather-jokes.jsonl").open("rb") as file:
        uploaded = client.files.create(file=file, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=uploaded.id, hyperparameters={"n_epochs": 50, "batch_size": 1}
    )
    while not any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job.id, limit=3)):
        time.sleep(0.5)
    return job.id


def _between(heard: Sequence[Heard]) -> list[float]:
    return [seconds for one in heard for seconds in one.between]


def _figures(heard: Sequence[Heard], seconds: float) -> tuple[str, ...]:
    between = _between(heard)
    return (
        f"{statistics.median(one.first for one in heard):.2f} s",
        f"{1000 * statistics.median(between):.0f} ms",
        f"{1000 * _percentile(between, 99):.0f} ms",
        f"{(len(between) + len(heard)) / seconds:.1f}",
    )


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


if __name__ == "__main__":
    main()
