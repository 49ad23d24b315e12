"""Seconds from `tunesmith serve` to a first answer, cold, after a job and warm, and what each part of it takes.

    python bench/serving/start.py [--rounds 3] [--base NAME] [--shape qwen3-0.6b] [--weights auto float32] [--no-job]

Starts servers of its own and asks through the official client, each time in a data directory in which the base has
answered before (the first answer of all checks 16-bit weights, once, and is shown apart). Prints the medians; then
the parts of a load, each timed within one new process: imports, kernels, weights, panels, tokenizer, the first step;
the memory of a load beside what the pool counts for it, for each of --weights; and what the imports of the server and
of some commands take. Run it on an idle machine: compiled code and the base must be in the cache (it makes both first).
--shape: a base with random weights, see bench/shapes.py, instead of --base; a job on it has few rows.
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
sys.path.insert(0, str(HERE.parent))

from bench.shapes import SHAPES, base_of_shape  # noqa: E402 - after the path

from tunesmith.models.directory import materialise  # noqa: E402
from tunesmith.models.registry import resolve_base  # noqa: E402
from tunesmith.settings import get_settings  # noqa: E402

PYTHON = sys.executable
JOB_ROWS = 10  # of a job on a shape
COLD = {"TUNESMITH_SERVE_PRELOAD": ""}  # the default loads what was asked last
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
width = sys.argv[2] or {"float32": "float16"}.get(weights.stored(), weights.stored())
runner = CompiledRunner(weights, width)
took("panels packed, threads started")
stored = sum(weight.nbytes for weight in weights.linears())
seconds["packed, GB of the file a second"] = stored / 1e9 / seconds["panels packed, threads started"]
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
seconds["torch"] = float("torch" in sys.modules)
print(json.dumps(seconds))
"""

# A load as a server makes it, and one step; the last line is a JSON object of MB.
MEMORY = """
import json, sys
from pathlib import Path
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.pool import Pool
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.settings import Settings
base_dir, settings = Path(sys.argv[1]), Settings(serve_weights=sys.argv[2], data_dir=sys.argv[3])
def status(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) / 1024
before = status("VmRSS")
runner, width = load_runner(base_dir, settings)
loaded = status("VmHWM")
runner.forward([SequenceChunk(0, 0, tuple(range(64)), None, 1)], 2)
counted = Pool(settings).counted_bytes(base_dir) / 2**20
of_file = sum(file.stat().st_size for file in base_dir.glob("*.safetensors")) / 2**20
print(json.dumps({
    "width": width, "the file": of_file, "the pool counts": counted, "imports": before, "peak of the load": loaded,
    "peak with a step": status("VmHWM"), "then, of no file": status("RssAnon"),
    "then, pages of files": status("RssFile"),
    "peak beyond the pool's": status("VmHWM") - counted,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--shape", choices=SHAPES, help="instead of --base")
    parser.add_argument("--width", default="", help="of the panels, in the table of parts; default: 16 bits")
    parser.add_argument("--weights", nargs="+", default=["auto"], help="values of serve_weights, in the memory's table")
    parser.add_argument("--no-job", action="store_true", help="leave out the answer after a job, which trains one")
    options = parser.parse_args()
    base, directory = options.base, base_directory(options.base, options.shape)
    if options.shape:
        base = options.shape
        os.environ["TUNESMITH_BASES"] = json.dumps({base: str(directory)})
    of_rounds = range(options.rounds)
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
        with server(folder, COLD) as (_, client):  # makes what is made once: the base's directory, the compiled code
            ask(client, base)
        show("seconds", [serve_once(base, folder) for _ in of_rounds])
        show("with the base of the last request loaded at the start", [preloaded(base, folder) for _ in of_rounds])
        if not options.no_job:
            rows = JOB_ROWS if options.shape else None
            show("after a job", [after_a_job(base, folder, rows) for _ in of_rounds])
    show("in a new data directory", [first_of_all(base) for _ in of_rounds])
    show("parts of a load", [in_new_process(PARTS, str(directory), options.width) for _ in of_rounds])
    show_memory(directory, options.weights)
    show("imports", [{name: seconds_of("-c", f"import {name}") for name in IMPORTS} for _ in of_rounds])
    command = {name: [*("-m", "tunesmith.cli"), *arguments] for name, arguments in COMMANDS.items()}
    show("commands", [{name: seconds_of(*words) for name, words in command.items()} for _ in of_rounds])


def base_directory(base: str, shape: str | None) -> Path:
    settings = get_settings()
    return base_of_shape(shape, settings) if shape else materialise(resolve_base(base, settings), settings)


def show_memory(directory: Path, weights: list[str]) -> None:
    """The second load of a data directory is shown: the first one may check 16-bit weights."""
    table = Table("memory, MB (2^20)", *weights)
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
        loads = [[in_new_process(MEMORY, str(directory), one, folder) for _ in range(2)][1] for one in weights]
    for name in loads[0]:
        found = [load[name] for load in loads]
        table.add_row(name, *(one if isinstance(one, str) else f"{one:,.0f}" for one in found))
    Console().print(table)


def show(title: str, rounds: list[dict[str, float]]) -> None:
    table = Table(title, "median", "least", "most")
    for name in rounds[0]:
        found = [one[name] for one in rounds]
        table.add_row(name, *(f"{value:.2f}" for value in (statistics.median(found), min(found), max(found))))
    Console().print(table)


def first_of_all(base: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder, server(folder, COLD) as (_, client):
        return {"first answer of all": ask(client, base)}


def preloaded(base: str, folder: str) -> dict[str, float]:
    """A request that comes with the server's being ready, and one that comes three seconds later."""
    with server(folder) as (_, client):
        at_once = ask(client, base)
    with server(folder) as (_, client):
        time.sleep(3)
        return {"asked at once": at_once, "asked after 3 s": ask(client, base)}


def serve_once(base: str, folder: str) -> dict[str, float]:
    """A server, and two answers."""
    started = time.monotonic()
    with server(folder, COLD) as (process, client):
        found = {"serve -> ready": time.monotonic() - started}
        found["ready -> first answer"] = ask(client, base)
        found["the next answer"] = ask(client, base)
        found["server's peak MB"] = peak_mb(process.pid)
    return found


def after_a_job(base: str, folder: str, rows: int | None) -> dict[str, float]:
    """A tuned model's first answer, on a server that has answered nothing before, and the next one."""
    lines = (HERE.parent / "examples" / "weather-jokes.jsonl").read_bytes().splitlines(keepends=True)
    with server(folder, COLD) as (_, client):
        uploaded = client.files.create(file=("rows.jsonl", b"".join(lines[:rows])), purpose="fine-tune")
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


def in_new_process(script: str, *arguments: str) -> dict[str, float]:
    """What the script prints as JSON, in its last line."""
    done = subprocess.run([PYTHON, "-c", script, *arguments], capture_output=True, text=True, check=False)
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
