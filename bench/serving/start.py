"""Seconds from `tunesmith serve` to a first answer, cold, after a job and warm, and what each part of it takes.

    python bench/serving/start.py [--rounds 3] [--base NAME] [--no-job]

Starts servers of its own and asks through the official client, each time in a data directory in which the base has
answered before (the first answer of all checks 16-bit weights, once, and is shown apart). Prints the medians; then
the parts of a load, each timed within one new process: imports, kernels, weights, panels, tokenizer, the first step;
and what the imports of the server and of some commands take. Run it on an idle machine: compiled code and the base must
be in the cache (it makes both first).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openai import OpenAI
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
QUESTION = [{"role": "user", "content": "Will it snow in Oslo tomorrow?"}]
COMMANDS = {
    "tunesmith --help": ["--help"],
    "tunesmith --version": ["--version"],
    "tunesmith models list": ["models", "list"],
}
IMPORTS = (
    "tunesmith.cli.app",
    "tunesmith.cli.server.run",
    "tunesmith.web.site",
    "tunesmith.worker.loop",
    "tunesmith.serve.local.engine",
)
# What a first answer does, in its order; the last line is a JSON object of seconds.
PARTS = """
import json, sys, time
from pathlib import Path
base_dir, seconds, last = Path(sys.argv[1]), {}, time.perf_counter()
def took(name):
    global last
    now = time.perf_counter()
    seconds[name], last = now - last, now
import numpy, numba
took("import numpy and numba")
from tunesmith.serve.local.llama_runner import CompiledRunner
took("import the engine")
from tunesmith.serve.local.base_weights import map_weights
weights = map_weights(base_dir)
assert weights is not None, "transformers is needed for this base"
took("config and weights mapped")
from tunesmith.families.array_panels import pack
from tunesmith.system.pages import fresh_slab
pack([numpy.zeros((16, 16), numpy.float32)], "float32", fresh_slab(1024))
took("kernels' code: packing")
runner = CompiledRunner(weights, sys.argv[2])
took("panels packed, threads started")
from tunesmith.render.renderer import load_renderer
renderer = load_renderer(base_dir)
took("tokenizer and template")
from tunesmith.serve.engine.grammar import Grammars
Grammars(renderer)
took("grammars")
from tunesmith.serve.engine.model import SequenceChunk
ids = tuple(renderer.encode("Will it snow in Oslo tomorrow? " * 4))
runner.forward([SequenceChunk(0, 0, ids, None, 1)], 2)
took("kernels' code: a step; the first prompt")
runner.forward([SequenceChunk(1, 0, ids, None, 1)], 2)
took("the same prompt again")
seconds["peak MB"] = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
seconds["torch"] = float("torch" in sys.modules)
print(json.dumps(seconds))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--width", default="float16", help="of the panels, in the table of parts")
    parser.add_argument("--no-job", action="store_true", help="leave out the answer after a job, which trains one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
        with server(folder) as (_, client):  # makes what a machine makes once: the base's directory, the compiled code
            ask(client, options.base)
        show("seconds", [serve_once(options.base, folder) for _ in range(options.rounds)])
        show("with serve_preload", [preloaded(options.base, folder) for _ in range(options.rounds)])
        if not options.no_job:
            show("after a job", [after_a_job(options.base, folder) for _ in range(options.rounds)])
    show("in a new data directory", [first_of_all(options.base) for _ in range(options.rounds)])
    show("parts of a load", [parts(options.base, options.width) for _ in range(options.rounds)])
    show("imports", [{name: seconds_of("-c", f"import {name}") for name in IMPORTS} for _ in range(options.rounds)])
    command = {name: [*("-m", "tunesmith.cli"), *arguments] for name, arguments in COMMANDS.items()}
    show("commands", [{name: seconds_of(*words) for name, words in command.items()} for _ in range(options.rounds)])


def show(title: str, rounds: list[dict[str, float]]) -> None:
    table = Table(title, "median", "least", "most")
    for name in rounds[0]:
        found = [one[name] for one in rounds]
        table.add_row(name, *(f"{value:.2f}" for value in (statistics.median(found), min(found), max(found))))
    Console().print(table)


def first_of_all(base: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder, server(folder) as (_, client):
        return {"first answer of all": ask(client, base)}


def preloaded(base: str, folder: str) -> dict[str, float]:
    """A request that comes with the server's being ready, and one that comes three seconds later."""
    with server(folder, {"TUNESMITH_SERVE_PRELOAD": base}) as (_, client):
        at_once = ask(client, base)
    with server(folder, {"TUNESMITH_SERVE_PRELOAD": base}) as (_, client):
        time.sleep(3)
        return {"asked at once": at_once, "asked after 3 s": ask(client, base)}


def serve_once(base: str, folder: str) -> dict[str, float]:
    """A server, and two answers."""
    started = time.monotonic()
    with server(folder) as (process, client):
        found = {"serve -> ready": time.monotonic() - started}
        found["ready -> first answer"] = ask(client, base)
        found["the next answer"] = ask(client, base)
        found["server's peak MB"] = peak_mb(process.pid)
    return found


def after_a_job(base: str, folder: str) -> dict[str, float]:
    """A tuned model's first answer, on a server that has answered nothing before, and the next one."""
    with server(folder) as (_, client):
        with (HERE.parent / "examples" / "weather-jokes.jsonl").open("rb") as handle:
            uploaded = client.files.create(file=handle, purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model=base, training_file=uploaded.id, seed=0, hyperparameters={"n_epochs": 1}
        )
        while job.status not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.25)
            job = client.fine_tuning.jobs.retrieve(job.id)
        if job.status != "succeeded":
            raise SystemExit(f"The job {job.status}: {job.error}")
        model = str(job.fine_tuned_model)
        return {"tuned model's first answer": ask(client, model), "the next answer": ask(client, model)}


def parts(base: str, width: str) -> dict[str, float]:
    """Of one load, in a process of its own."""
    from tunesmith.models.directory import materialise
    from tunesmith.models.registry import resolve_base
    from tunesmith.settings import get_settings

    settings = get_settings()
    directory = materialise(resolve_base(base, settings), settings)
    done = subprocess.run([PYTHON, "-c", PARTS, str(directory), width], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def seconds_of(*arguments: str) -> float:
    """Of a new Python."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TUNESMITH_DATA_DIR": folder}
        subprocess.run([PYTHON, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    return time.monotonic() - started


def ask(client: OpenAI, model: str) -> float:
    """The seconds of an answer of one token."""
    started = time.monotonic()
    client.chat.completions.create(model=model, messages=QUESTION, max_tokens=1, temperature=0)  # type: ignore[arg-type]
    return time.monotonic() - started


def peak_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def server(folder: str, settings: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[bytes], OpenAI]]:
    """As `bench.job.server`, looked at more often."""
    ready = Path(folder) / "ready.json"
    ready.unlink(missing_ok=True)
    command = [PYTHON, "-m", "tunesmith.cli", "serve", "--port", "0", "--ready-file", str(ready)]
    environment = {**os.environ, "TUNESMITH_DATA_DIR": folder, **(settings or {})}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise SystemExit(f"The server ended: {' '.join(command)}")
            time.sleep(0.01)
        key = (Path(folder) / "api-key").read_text().strip()
        yield process, OpenAI(base_url=json.loads(ready.read_text())["base_url"], api_key=key)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
