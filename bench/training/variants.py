"""A training step by this tree and by an earlier revision in turn, in one process: what a change wins.

    python bench/training/variants.py [--before REVISION] [--only KIND ...] [--shape NAME] [--rounds N]
        [--threads 1 --cpu]

The rate of a shared machine changes by half within minutes, and both versions see the same minutes. Rounds are steps of
both, the first one warming up; the order changes from round to round. Printed: the ratio of medians (this tree over the
earlier one), its quartiles over the rounds, the ratio of the best, and the distance of the gradients over their norm.
"""

import argparse
import gc
import importlib
import io
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.training.step_rows import KINDS, SHAPES, micro_batches, random_model, rows_of, scorer_of

from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.losses import supervised_loss
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.scoring import TreeScorer

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("settings", "train.adapters.lora", "train.paths.compiled", "train.paths.scoring", "kernels.training.step")


def package(name: str) -> ModuleType:
    """A version of Tunesmith with its training kernels compiled."""
    for part in PARTS:
        importlib.import_module(f"{name}.{part}")
    found = sys.modules[name]
    found.kernels.compiler.precompile("training", found.kernels.training.step.training_step)
    return found


def unpack(revision: str, folder: Path) -> str:
    """The sources of a revision (or of a folder that has src/) as a package of another name, which is returned."""
    name = "tunesmith_" + re.sub(r"\W", "_", revision)[-40:]
    if Path(revision).is_dir():
        packed = subprocess.run(["tar", "-c", "-C", revision, "src/tunesmith"], capture_output=True, check=True)
    else:
        command = ["git", "-C", str(ROOT), "archive", revision, "src/tunesmith"]
        packed = subprocess.run(command, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    (folder / "src" / "tunesmith").rename(folder / name)
    for file in (folder / name).rglob("*.py"):
        file.write_text(re.sub(r"\btunesmith(?=[.\" ])", name, file.read_text("utf-8")), "utf-8")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = f"{folder}:{os.environ.get('PYTHONPATH', '')}"
    return name


@dataclass(frozen=True, slots=True)
class Side:
    """One version's model and adapter."""

    adapter: Adapter
    scorer: TreeScorer

    def step(self, parts: list[list[TokenRow]], clock: Callable[[], float]) -> float:
        """Seconds of forward and backward, head and loss."""
        self.adapter.grad.zero_()
        began = clock()
        for part in parts:
            scores = self.scorer.score(part)
            supervised_loss(scores.logprobs, scores.weights, float(scores.weights.sum())).backward()
        return clock() - began


def compare(sides: list[Side], parts: list[list[TokenRow]], rounds: int, clock: Callable[[], float]) -> str:
    times: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for index in (0, 1) if turn % 2 else (1, 0):
            seconds = sides[index].step(parts, clock)
            if turn:
                times[index].append(seconds)
    ratios = sorted(now / before for now, before in zip(*times, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    now, before = (side.adapter.grad.double() for side in sides)
    apart = float((now - before).norm() / before.norm())
    medians = [statistics.median(one) for one in times]
    return (
        f"{medians[0] / medians[1]:.3f} | {middle:.3f} ({low:.3f}-{high:.3f}) | {min(times[0]) / min(times[1]):.3f} | "
        f"{medians[0] * 1000:,.0f} | {medians[1] * 1000:,.0f} | {apart:.1e}"
    )


def step_options(
    parser: argparse.ArgumentParser, *, shape: str, rounds: int
) -> tuple[argparse.Namespace, dict[str, int], Callable[[], float]]:
    """The options of steps that are compared, what they change of the shape, and the clock that they ask for."""
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--shape", choices=SHAPES, default=shape)
    parser.add_argument("--layers", type=int, help="another number of layers than the shape's")
    parser.add_argument("--vocabulary", type=int, help="another size of the vocabulary, such as 1024: layers alone")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, help="as many as there are processors unless given")
    parser.add_argument("--cpu", action="store_true", help="the process's time, on a machine that others use too")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    changes = {"num_hidden_layers": options.layers, "vocab_size": options.vocabulary}
    clock = time.process_time if options.cpu else time.perf_counter
    return options, {name: value for name, value in changes.items() if value}, clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="HEAD", help="a revision, or a folder with src/tunesmith")
    options, changes, clock = step_options(parser, shape="smollm2-135m", rounds=9)
    with tempfile.TemporaryDirectory() as folder:
        packages = [package("tunesmith"), package(unpack(options.before, Path(folder)))]
        print("| rows | ratio of medians | of rounds (quartiles) | of best | ms | ms before | gradients apart |")
        for kind in options.only:
            models = [random_model(options.shape, changes) for _ in packages]
            vocabulary = models[0].config.vocab_size
            sides = [
                Side(*scorer_of(one, model, both=kind == "weather"))
                for one, model in zip(packages, models, strict=True)
            ]
            parts = micro_batches(rows_of(kind, vocabulary))
            print(f"| {kind} | {compare(sides, parts, options.rounds, clock)} |", flush=True)
            del sides, models
            gc.collect()


if __name__ == "__main__":
    main()
