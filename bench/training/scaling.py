"""How the trainer scales: useful tokens/s over shared prefix, rows of a step, length of a row, and threads; memory.

    python bench/training/scaling.py [--quick] [--plot docs/training-scaling.svg] [--results FILE] [--only SERIES ...]

Each point is a trainer's process of its own on rows made from a seed, with SmolLM2-135M-Instruct and a LoRA of rank 16:
one step to warm up, then `--steps` measured ones. Useful tokens are the real tokens of the rows. Peak memory is the
largest resident memory of the whole process, with the check of its first rows by the reference path. Takes about ten
minutes on two cores; `--quick`, about three, has fewer points and one measured step. What stands in FILE is not
measured again, so that a run can be stopped and started.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.render.renderer import load_renderer
from tunesmith.settings import Settings
from tunesmith.train.core.examples import read_examples
from tunesmith.train.core.packing import pack
from tunesmith.train.protocol.events import Event, Step, parse_events
from tunesmith.train.protocol.spec import TrainSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.training.plot import Panel, svg
from bench.training.rows import WORDS

OWN, PREFIX, ROWS = 60, 400, 8  # tokens of a row that no other has, tokens that all have, rows of a step
AROUND = 20  # tokens of a row that are neither prefix nor own: the turns' marks, a short system prompt


@dataclass(frozen=True, slots=True)
class Point:
    """What is trained. `prefix` and `own` are words, nearly all of one token."""

    prefix: int
    own: int
    rows: int
    threads: int


@dataclass(frozen=True, slots=True)
class Measured:
    useful: int  # tokens of a step
    distinct: int
    tokens_per_second: float
    peak_bytes: int


def write_file(point: Point, steps: int, path: Path) -> None:
    """A third of a row's own words are the question, the others the answer."""
    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(max(1, count)))

    prompt = words(point.prefix) if point.prefix else "Answer."
    lines = []
    for _ in range(steps * point.rows):
        messages = [("system", prompt), ("user", words(point.own // 3)), ("assistant", words(point.own * 2 // 3))]
        lines.append(json.dumps({"messages": [{"role": role, "content": text} for role, text in messages]}))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def measure(point: Point, base: Path, steps: int) -> Measured:
    """The median of `steps` steps after a first one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        write_file(point, steps + 1, rows)
        examples = read_examples(rows, load_renderer(base), "supervised", None)[: point.rows]
        distinct = pack([example.rows[0] for example in examples]).length
        events, peak_bytes = train(point, base, rows, folder)
        rates = sorted(one.tokens_per_second or 0.0 for one in events if isinstance(one, Step) and one.step > 1)
        useful = sum(example.tokens for example in examples)
        return Measured(useful, distinct, rates[len(rates) // 2], peak_bytes)


def train(point: Point, base: Path, rows: Path, folder: Path) -> tuple[list[Event], int]:
    """A trainer's events, and its largest resident memory in bytes."""
    TrainSpec(
        job_id="scaling",
        base_name="scaling",
        base_dir=base,
        training_file=rows,
        output_dir=folder / "output",
        n_epochs=1,
        batch_size=point.rows,
        threads=point.threads,
        checkpoint_seconds=0,
        blocked_weights=True,  # as in any job that lasts longer than these few steps
    ).write(folder / "spec.json")
    command = [sys.executable, "-m", "tunesmith.train", str(folder / "spec.json")]
    with (folder / "log").open("w") as output, (folder / "errors").open("w") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{point} failed: {(folder / 'log').read_text()[-500:]}")
    return parse_events((folder / "log").read_text("utf-8")), usage.ru_maxrss * 1024


def series(quick: bool) -> dict[str, tuple[str, list[tuple[int, Point]]]]:
    """Title -> what varies, and its points."""
    cores = len(os.sched_getaffinity(0))
    threads = sorted({1, min(2, cores), cores})
    prefixes = (0, 400, 1600) if quick else (0, 100, 200, 400, 800, 1600)
    counts = (1, 8, 32) if quick else (1, 2, 4, 8, 16, 32)
    lengths = (32, 512, 2048) if quick else (32, 64, 128, 256, 512, 1024, 2048)
    return {
        "Shared prefix": ("tokens of the prefix", [(n, Point(n, OWN, ROWS, cores)) for n in prefixes]),
        "Rows of a step": ("rows", [(n, Point(PREFIX, OWN, n, cores)) for n in counts]),
        "Length of a row": ("tokens, one row a step", [(n, Point(0, n - AROUND, 1, cores)) for n in lengths]),
        "Threads, shared prefix": ("threads", [(n, Point(PREFIX, OWN, ROWS, n)) for n in threads]),
        "Threads, one row of 512 tokens": ("threads", [(n, Point(0, 512 - AROUND, 1, n)) for n in threads]),
    }


def read_results(path: Path | None) -> dict[Point, Measured]:
    lines = path.read_text("utf-8").splitlines() if path and path.exists() else []
    return {Point(**entry["point"]): Measured(**entry["found"]) for entry in map(json.loads, lines)}


def print_series(title: str, varies: str, points: list[tuple[int, Point]], found: dict[Point, Measured]) -> None:
    print(f"\n### {title}\n")
    print(f"| {varies} | useful tokens of a step | distinct | useful tokens/s | peak memory |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for value, point in points:
        one = found[point]
        print(
            f"| {value} | {one.useful:,} | {one.distinct:,} | {one.tokens_per_second:,.0f} "
            f"| {one.peak_bytes / 1e9:.2f} GB |"
        )


def panels(shown: dict[str, tuple[str, list[tuple[int, Point]]]], found: dict[Point, Measured]) -> list[Panel]:
    drawn = []
    for title, (varies, points) in shown.items():
        if "Threads" not in title:
            rates = [(float(value), found[point].tokens_per_second) for value, point in points]
            drawn.append(Panel(title, varies, "useful tokens/s", {"": rates}))
    if "Length of a row" in shown:
        varies, points = shown["Length of a row"]
        memory = [(float(value), found[point].peak_bytes / 1e9) for value, point in points]
        drawn.append(Panel("Memory", varies, "peak memory, GB", {"": memory}))
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int, help="measured at each point; default: 3, with --quick 1")
    parser.add_argument("--only", nargs="*", default=[""], help="the series whose titles begin so")
    parser.add_argument("--plot", type=Path, help="the SVG to write")
    parser.add_argument("--results", type=Path, help="file of what has been measured; more is added to it")
    options = parser.parse_args()
    settings = Settings()
    base = pull(resolve_base("smollm2-135m-instruct", settings), settings)
    shown = {title: one for title, one in series(options.quick).items() if title.startswith(tuple(options.only))}
    found = read_results(options.results)
    for title, (varies, points) in shown.items():
        for _, point in points:
            if point in found:  # some stand in two series
                continue
            found[point] = measure(point, base, options.steps or (1 if options.quick else 3))
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps({"point": asdict(point), "found": asdict(found[point])}) + "\n")
        print_series(title, varies, points, found)
        sys.stdout.flush()
    if options.plot:
        options.plot.write_text(svg(panels(shown, found)), "utf-8")


if __name__ == "__main__":
    main()
