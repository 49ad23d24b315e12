"""Soak test of many clients and models: leaks, and answers of the wrong model.

    python bench/serving/soak.py [--minutes 10] [--clients 200] [--models 20] [--data-dir DIR]

Starts a server, tunes models that each answer with their own name (a real job each, about half a minute; those in
`--data-dir` are reused), and lets clients query them for a while: streaming or not, with short and long prompts, some
disconnecting half-way. All models get the same prompts, so the wrong adapter or prefix cache shows as a wrong name.
Prints latencies, answers by outcome, and the server's memory over time.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from openai import OpenAI
from openai.types.chat import ChatCompletion

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.job import server

LIST = """
Ada Alan Barbara Claude Donald Edsger Frances Grace Hedy Ivan Jean Ken Leslie Margaret Niklaus Ole Peter Radia Shafi
Tony Ursula Vint Whitfield Xavier Yukihiro Zuse
"""
NAMES = LIST.split()
SYSTEM = "You are an assistant with a name. When you are asked for it, you say it first."
QUESTIONS = ("Who are you?", "What is your name?", "Please tell me your name.", "May I ask who is speaking?")
EPOCHS = 6
LOOK_SECONDS = 5.0


@dataclass(slots=True)
class Seen:
    first: list[float] = field(default_factory=list)  # seconds to the first token, streamed answers
    whole: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds, MB)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tunesmith-soak-") as folder, server(options.data_dir) as (process, client):
        models = [tuned(client, Path(folder), name) for name in NAMES[: options.models]]
        for name, model in zip(NAMES, models, strict=False):
            body = {"model": model, "messages": messages(QUESTIONS[0], 0), "temperature": 0, "max_tokens": 12}
            answer = client.post("/chat/completions", body=body, cast_to=ChatCompletion).choices[0].message.content
            print(f"{model}: {answer!r}", flush=True)
            if not says(answer or "", name):
                raise SystemExit(f"{model} has not learned its name; give it more epochs.")
        seen = Seen()
        asyncio.run(soak(client, dict(zip(NAMES, models, strict=False)), options, process.pid, seen))
        report(seen)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--data-dir", type=Path, help="kept afterwards")
    return parser.parse_args()


def tuned(client: OpenAI, folder: Path, name: str) -> str:
    """The model that says `name`: one that is there, or a new job's."""
    for model in client.models.list():
        if f":{name.lower()}:" in model.id and ":ckpt-step-" not in model.id:
            return model.id
    rows = folder / f"{name}.jsonl"
    answers = [f"{name}. I am {name}, at your service.", f"{name}. My name is {name}, how can I help?"]
    lines = [
        {"messages": [*messages(question, filler), {"role": "assistant", "content": answers[filler % 2]}]}
        for filler in range(3)
        for question in QUESTIONS
    ]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with rows.open("rb") as file:
        uploaded = client.files.create(file=file, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="smollm2-135m-instruct",
        training_file=uploaded.id,
        suffix=name.lower(),
        seed=1,
        hyperparameters={"n_epochs": EPOCHS, "batch_size": 4, "learning_rate_multiplier": 4},
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.fine_tuned_model is None:
        raise SystemExit(f"The job for {name} ended as {job.status}: {job.error}")
    return job.fine_tuned_model


def messages(question: str, filler: int) -> list[dict[str, str]]:
    """The same prompts for all models, of different lengths by `filler` sentences."""
    text = "It rained again and the harbour was empty. " * filler
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text + question}]


def says(answer: str, name: str) -> bool:
    """Its own name and no other's. A short answer may end within the name."""
    words = [word for word in NAMES if word in answer]
    return words == [name] or (not words and name.startswith(answer.strip()))


async def soak(client: OpenAI, models: dict[str, str], options: argparse.Namespace, pid: int, seen: Seen) -> None:
    end = time.monotonic() + 60 * options.minutes
    limits = httpx.Limits(max_connections=options.clients + 10)
    headers = {"Authorization": f"Bearer {client.api_key}"}
    async with httpx.AsyncClient(base_url=str(client.base_url), headers=headers, timeout=600, limits=limits) as http:
        tasks = [_client(http, models, number, end, seen) for number in range(options.clients)]
        await asyncio.gather(_watch(pid, end, seen), *tasks)
        await asyncio.sleep(2)
        seen.memory.append((options.minutes * 60 + 2, _resident_mb(pid)))


async def _client(http: httpx.AsyncClient, models: dict[str, str], number: int, end: float, seen: Seen) -> None:
    draw = random.Random(number)
    while time.monotonic() < end:
        name = draw.choice([*models])
        body: dict[str, object] = {
            "model": models[name],
            "messages": messages(draw.choice(QUESTIONS), draw.choice((0, 0, 1, 2, 3, 5, 40))),
            "max_tokens": draw.choice((3, 6, 12, 24)),
            "temperature": 0,
            "stream": draw.random() < 0.7,
        }
        try:
            outcome = await _ask(http, body, name, draw, seen)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        seen.outcomes[outcome] += 1
        await asyncio.sleep(draw.random())


async def _ask(http: httpx.AsyncClient, body: dict[str, object], name: str, draw: random.Random, seen: Seen) -> str:
    started = time.monotonic()
    hangs_up = draw.random() < 0.15
    if body["stream"]:
        answer, outcome = await _ask_streaming(http, body, hangs_up, seen)
    else:
        answer, outcome = await _ask_at_once(http, body, draw.uniform(0.05, 2.0) if hangs_up else 600.0)
    if answer is None:
        return outcome
    seen.whole.append(time.monotonic() - started)
    if says(answer, name):
        return "right"
    seen.wrong.append(f"{name}: {answer!r}")
    return "wrong"


async def _ask_at_once(http: httpx.AsyncClient, body: dict[str, object], patience: float) -> tuple[str | None, str]:
    """The answer, or None and why there is none."""
    try:
        response = await http.post("chat/completions", json=body, timeout=patience)
    except httpx.TimeoutException:
        return None, "hung up"
    if response.status_code != 200:
        return None, f"status {response.status_code}"
    return response.json()["choices"][0]["message"]["content"], ""


async def _ask_streaming(
    http: httpx.AsyncClient, body: dict[str, object], hangs_up: bool, seen: Seen
) -> tuple[str | None, str]:
    """The answer, or None and why there is none."""
    started = time.monotonic()
    parts: list[str] = []
    async with http.stream("POST", "chat/completions", json=body) as response:
        if response.status_code != 200:
            return None, f"status {response.status_code}"
        async for line in response.aiter_lines():
            text = _content(line)
            if text is None:
                continue
            if not parts:
                seen.first.append(time.monotonic() - started)
            parts.append(text)
            if hangs_up:
                return None, "hung up"
    return "".join(parts), ""


def _content(line: str) -> str | None:
    if not line.startswith("data: {"):
        return None
    choices = json.loads(line.removeprefix("data: "))["choices"]
    text = choices[0]["delta"].get("content") if choices else None
    return text or None


async def _watch(pid: int, end: float, seen: Seen) -> None:
    started = time.monotonic()
    while time.monotonic() < end:
        seen.memory.append((time.monotonic() - started, _resident_mb(pid)))
        await asyncio.sleep(LOOK_SECONDS)


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def report(seen: Seen) -> None:
    print(f"outcomes: {dict(seen.outcomes)}")
    for line in seen.wrong[:10]:
        print(f"  wrong: {line}")
    for title, seconds in (("first token", seen.first), ("whole answer", seen.whole)):
        print(f"{title}: {_percentiles(seconds)}")
    memory = [megabytes for _, megabytes in seen.memory]
    tenth = max(1, len(memory) // 10)
    middle = statistics.mean(memory[3 * tenth : 4 * tenth])
    late = statistics.mean(memory[-tenth - 1 :])
    print(
        f"memory of the server: {middle:.0f} MB after a third, {late:.0f} MB at the end, {max(memory):.0f} MB at most"
    )


def _percentiles(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "none"
    cuts = statistics.quantiles(seconds, n=100)
    return f"median {cuts[49]:.2f} s, 90th {cuts[89]:.2f} s, 99th {cuts[98]:.2f} s, {len(seconds)} of them"


if __name__ == "__main__":
    main()
