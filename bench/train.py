"""Tunesmith's trainer beside its peers: same base, rows, batches, LoRA values, optimizer; one engine after the other.

    python bench/train.py [--data FOLDER] [--steps N] [--rounds N] [--only DATASET ...] [--engines NAME ...]

transformers, PEFT and TRL are in the environment that `make setup` makes. LLaMA-Factory wants older ones and needs an
environment of its own; without it its lines are left out, and that is said:

    python -m venv .venvs/llamafactory && .venvs/llamafactory/bin/pip install torch==2.13.0 llamafactory==0.9.5
    .venvs/llamafactory/bin/pip uninstall --yes torchvision torchaudio    # they want CUDA and are not needed

Useful tokens are the real tokens of the rows, whatever an engine makes of them. Share of peak: the matrix products
that the distinct tokens need (`train.paths.flops.Work`) per second of step time, over the best rate of a large matrix
product measured beside the dataset. The first step of each run warms up and is left out of the rates. Peak memory is
the largest resident memory that the kernel saw. A file of at most 20 rows is trained as a job of ten epochs with
batch 1.

Tunesmith runs before, between and after its peers: the median over its runs stands in the table, and how far they lie
apart is printed. With `--rounds` everything is repeated, and the medians are the peers' too. One round takes about 25
minutes on two cores, most of it the peers'.
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
class Line:
    """Of the table: medians over the runs of one engine on one dataset."""

    title: str
    tokens_per_second: float
    peak_bytes: float
    process_seconds: float
    share_of_peak: float
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
        tokens_per_second=statistics.median(one.tokens_per_second(task) for one in mine),
        peak_bytes=statistics.median(one.peak_bytes for one in mine),
        process_seconds=statistics.median(one.process_seconds for one in mine),
        share_of_peak=statistics.median(one.needed_rate(task) for one in mine) / peak,
        losses=mine[0].losses,
    )


def print_table(task: Task, results: list[Result], peak: float) -> None:
    rows = [len(row.ids) for batch in task.batches for example in batch.examples for row in example.rows]
    size, steps = task.spec.batch_size, len(task.batches)
    unit = "pairs" if task.spec.method == "dpo" else "rows"
    print(f"\n### {task.name}: {steps} steps of {size} {unit}\n")
    print(
        f"{sum(task.tokens)} useful tokens, {task.distinct} distinct; median row {statistics.median(rows):.0f} tokens."
    )
    print(f"Matrix products in fp32: {peak / 1e9:.0f} GFLOP/s at best, {torch.get_num_threads()} threads.\n")
    print("| engine | useful tokens/s | Tunesmith is | peak memory | of it | process | share of peak | losses |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    ours, *others = [summary(task, name, results, peak) for name in dict.fromkeys(one.engine for one in results)]
    for one in (ours, *others):
        faster, less = ours.tokens_per_second / one.tokens_per_second, ours.peak_bytes / one.peak_bytes
        ratios = ("", "") if one is ours else (f"{faster:.1f} x", f"{less:.0%}")
        losses = " ".join(f"{loss:.4f}" for loss in one.losses[:4])
        print(
            f"| {one.title} | {one.tokens_per_second:.0f} | {ratios[0]} | {one.peak_bytes / 1e9:.1f} GB | {ratios[1]} "
            f"| {one.process_seconds:.0f} s | {one.share_of_peak:.0%} | {losses} |"
        )
    rates = [one.tokens_per_second(task) for one in results if one.engine == "tunesmith"]
    print(f"\nTunesmith's runs: {' '.join(f'{rate:.0f}' for rate in rates)} tokens/s.")
    left = [one.left for one in results if one.left is not None]
    if left:
        print(f"Seconds left, as said after a tenth of the steps: {statistics.median(left):.2f} of what these took.")
    for one in others:
        apart = max(abs(mine - theirs) for mine, theirs in zip(ours.losses, one.losses, strict=True))
        print(f"Losses of all steps, Tunesmith and {one.title}: at most {apart:.1e} apart.")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of *.jsonl files; default: rows made from a seed")
    parser.add_argument("--environments", type=Path, default=Path(__file__).resolve().parents[1] / ".venvs")
    parser.add_argument("--engines", nargs="*", choices=sorted(PEERS), help="peers to run; none: Tunesmith alone")
    parser.add_argument("--only", nargs="*", help="the datasets whose names begin so")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch", type=int, help="rows of a step; default: 8, 4 with tools, 2 pairs")
    options = parser.parse_args()
    settings = Settings()
    base_dir = pull(resolve_base("smollm2-135m-instruct", settings), settings)
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
