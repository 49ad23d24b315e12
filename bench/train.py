"""Tunesmith's trainer beside its peers: same base, rows, batches, LoRA values, optimizer; one engine after the other.

    python bench/train.py [--data FOLDER] [--steps N] [--rounds N] [--only DATASET ...] [--engines NAME ...]
                          [--shape qwen3-0.6b | llama3.2-1b | qwen3-1.7b | llama3.2-3b]

transformers, PEFT and TRL are in the environment that `make setup` makes. LLaMA-Factory wants older ones and needs an
environment of its own; without it its lines are left out, and that is said:

    python -m venv .venvs/llamafactory && .venvs/llamafactory/bin/pip install torch==2.13.0 llamafactory==0.9.5
    .venvs/llamafactory/bin/pip uninstall --yes torchvision torchaudio    # they want CUDA and are not needed

Useful tokens are the real tokens of the rows, whatever an engine makes of them. Share of peak: the matrix products
that the distinct tokens need (`train.paths.flops.Work`) per second of step time, over the best rate of a large matrix
product measured beside the dataset. The first step of each run warms up and is left out of the rates; five are counted
unless `--steps` says otherwise. Peak memory is the largest resident memory that the kernel saw. A file of at most 20
rows is trained as a job of ten epochs with batch 1.

Tunesmith runs before, between and after its peers. The table has medians over an engine's runs, with the smallest and
the largest value where there is more than one run; `--rounds` repeats everything, so that the peers have ranges too.
One round takes over an hour on two cores, most of it the peers'; `--steps 2` takes about 25 minutes and counts
one step.

`--shape` takes a base of that shape with random weights in bfloat16 (`bench/shapes.py`), which is made once; with it
`--only shared-prompt instructions --engines trl --steps 2 --batch 4` is what is worth its minutes. Peers load it in
float32, as Tunesmith computes, so their losses are the same; they need 4 bytes a weight.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import path as import_path

import torch

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings
from tunesmith.train.core.device import Device
from tunesmith.train.paths.flops import matmul_peak

import_path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.shapes import SHAPES, base_of_shape
from bench.training.engines import PEERS, Result, python_of, run_peer, run_tunesmith
from bench.training.rows import write_rows
from bench.training.task import Task, make_task, starting_adapter

# What is worth its minutes: each trainer's defaults, and what is its best on such rows. `--engines` runs any others.
WORTH = {
    "shared-prompt": ("trl", "trl-kept", "plain", "lf-kept"),
    "weather": ("trl", "trl-kept"),
    "": ("trl", "trl-packed", "plain", "lf-packed"),
}
PEAK_SIZE = 2048  # rows and columns of the products whose best rate is the peak
WORTH_DPO = ("trl-dpo", "trl-dpo-kept")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a measure over an engine's runs, and its range."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values), len(values))

    def text(self, form: str, scale: float = 1.0) -> str:
        """`form` is a format of one number; the range is left out where there was one run."""
        middle, least, most = (format(value / scale, form) for value in (self.median, self.least, self.most))
        return middle if self.runs == 1 else f"{middle} ({least}-{most})"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: the runs of one engine on one dataset."""

    title: str
    tokens_per_second: Spread
    peak_bytes: Spread
    process_seconds: Spread
    share_of_peak: Spread
    losses: list[float]


def peers_of(task: Task, wanted: Sequence[str] | None, environments: Path) -> list[str]:
    """Those that can train the task and are installed."""
    worth = next(names for start, names in WORTH.items() if task.name.startswith(start))
    names = wanted if wanted is not None else WORTH_DPO if task.spec.method == "dpo" else worth
    names = [name for name in names if PEERS[name].method == task.spec.method]
    missing = [name for name in names if not python_of(PEERS[name], environments).exists()]
    if missing:
        print(f"({', '.join(missing)}: no environment in {environments}; `bench/train.py --help` says how to make it.)")
    return [name for name in names if name not in missing]


def run_all(task: Task, peers: list[str], environments: Path, adapter_dir: Path, rounds: int) -> list[Result]:
    """Tunesmith, two peers, Tunesmith, two peers, …, Tunesmith."""
    results = [run_tunesmith(task)]
    for _ in range(rounds):
        for at in range(0, len(peers), 2):
            results += [run_peer(task, name, environments, adapter_dir) for name in peers[at : at + 2]]
            results.append(run_tunesmith(task))
    return results


def summary(task: Task, engine: str, results: list[Result], peak: float) -> Line:
    mine = [one for one in results if one.engine == engine]
    return Line(
        title="Tunesmith" if engine == "tunesmith" else PEERS[engine].title,
        tokens_per_second=Spread.of([one.tokens_per_second(task) for one in mine]),
        peak_bytes=Spread.of([one.peak_bytes for one in mine]),
        process_seconds=Spread.of([one.process_seconds for one in mine]),
        share_of_peak=Spread.of([one.needed_rate(task) / peak for one in mine]),
        losses=mine[0].losses,
    )


def print_table(task: Task, results: list[Result], peak: float) -> None:
    print_heading(task, peak)
    print("| engine | useful tokens/s | Tunesmith is | peak memory | of it | process | share of peak | losses |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    ours, *others = [summary(task, name, results, peak) for name in dict.fromkeys(one.engine for one in results)]
    for one in (ours, *others):
        print(table_row(one, ours))
    print(f"\nCounted steps of each run: {max(1, len(task.batches) - 1)}; medians, with the range over the runs.")
    left = [one.left for one in results if one.left is not None]
    if left:
        print(f"Seconds left, as said after a tenth of the steps: {statistics.median(left):.2f} of what these took.")
    for one in others:
        apart = max(abs(mine - theirs) for mine, theirs in zip(ours.losses, one.losses, strict=True))
        print(f"Losses of all steps, Tunesmith and {one.title}: at most {apart:.1e} apart.")
    print(flush=True)


def print_heading(task: Task, peak: float) -> None:
    rows = [len(row.ids) for batch in task.batches for example in batch.examples for row in example.rows]
    size, steps = task.spec.batch_size, len(task.batches)
    unit = "pairs" if task.spec.method == "dpo" else "rows"
    print(f"\n### {task.name}: {steps} steps of {size} {unit}\n")
    print(
        f"{sum(task.tokens)} useful tokens, {task.distinct} distinct; median row {statistics.median(rows):.0f} tokens."
    )
    print(f"Matrix products in fp32: {peak / 1e9:.0f} GFLOP/s at best, {torch.get_num_threads()} threads.\n")


def table_row(one: Line, ours: Line) -> str:
    faster = ours.tokens_per_second.median / one.tokens_per_second.median
    less = ours.peak_bytes.median / one.peak_bytes.median
    cells = [
        one.title,
        one.tokens_per_second.text(".0f"),
        "" if one is ours else f"{faster:.1f} x",
        f"{one.peak_bytes.text('.1f', 1e9)} GB",
        "" if one is ours else f"{less:.0%}",
        f"{one.process_seconds.text('.0f')} s",
        one.share_of_peak.text(".0%"),
        " ".join(f"{loss:.4f}" for loss in one.losses[:4]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of *.jsonl files; default: rows made from a seed")
    parser.add_argument("--environments", type=Path, default=Path(__file__).resolve().parents[1] / ".venvs")
    parser.add_argument("--engines", nargs="*", choices=sorted(PEERS), help="peers to run; none: Tunesmith alone")
    parser.add_argument("--only", nargs="*", help="the datasets whose names begin so")
    parser.add_argument("--steps", type=int, default=6, help="of each run; the first is not counted")
    parser.add_argument("--rounds", type=int, default=1, help="how often every peer runs")
    parser.add_argument("--shape", choices=SHAPES, help="a base of this shape with random weights")
    parser.add_argument("--batch", type=int, help="rows of a step; default: 8, 4 with tools, 2 pairs")
    options = parser.parse_args()
    settings = Settings()
    base_dir = (
        base_of_shape(options.shape, settings)
        if options.shape
        else pull(resolve_base("smollm2-135m-instruct", settings), settings)
    )
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = options.data
        if data is None:
            data = scratch / "rows"
            write_rows(data)
        adapter_dir, work = starting_adapter(base_dir, scratch / "adapter")
        for file in sorted(data.glob("*.jsonl")):
            if options.only is not None and not file.stem.startswith(tuple(options.only)):
                continue
            task = make_task(file, base_dir, scratch / "tasks", options.steps, options.batch, work)
            device = Device("cpu", torch.float32)
            before = matmul_peak(device, PEAK_SIZE)
            peers = peers_of(task, options.engines, options.environments)
            results = run_all(task, peers, options.environments, adapter_dir, options.rounds)
            print_table(task, results, max(before, matmul_peak(device, PEAK_SIZE)))


if __name__ == "__main__":
    main()
