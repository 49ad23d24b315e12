"""What the threads' time goes to in a compiled training step: a table of shares.

    python bench/training/phases.py [--only KIND ...] [--shape NAME] [--layers N] [--steps N]

Steps of rows as long as those of `bench/train.py`, with random weights, a LoRA on all layers and AdamW; the first one
warms up. Within the layers the kernels' own clock is read (`kernels.training.phase_times`), the rest is measured around
them: time of the layers that no share has is Python's, between and around the two calls.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.training.step_rows import KINDS, SHAPES, micro_batches, random_model, rows_of, scorer_of
from bench.training.variants import package

from tunesmith.kernels.training.phase_times import Share
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.losses import supervised_loss
from tunesmith.train.core.packing import Packed, TokenRow
from tunesmith.train.paths.compiled import CompiledLayers
from tunesmith.train.paths.scoring import TreeScorer

NAMES = {
    Share.PRODUCTS_FORWARD: "frozen products, forward",
    Share.PRODUCTS_BACK: "frozen products, backward",
    Share.PANELS: "panels of transposed weights",
    Share.ATTENTION_FORWARD: "attention, forward",
    Share.ATTENTION_BACK: "attention, backward",
    Share.LOW_RANK: "low-rank products",
    Share.ACTIVATION: "SiLU and its gradient",
    Share.NORMS: "norms",
    Share.ROTATION: "rotary embedding, copies of keys and values",
    Share.WAITING: "waiting for the other threads",
}
HEAD, OPTIMIZER, REST = "output layer and loss", "optimizer", "rest"


@dataclass(slots=True)
class Measured:
    """Seconds of all steps: of the process, and of the layers' two calls within them."""

    whole: float = 0.0
    optimizer: float = 0.0
    calls: list[float] = field(default_factory=list)


def timed(layers: CompiledLayers, measured: Measured) -> None:
    """Measures each call of the layers from outside."""
    forward, backward = layers.forward, layers.backward

    def forward_timed(packed: Packed) -> tuple[torch.Tensor, int]:
        began = time.perf_counter()
        result = forward(packed)
        measured.calls.append(time.perf_counter() - began)
        return result

    def backward_timed(grad_TD: torch.Tensor, number: int) -> None:
        began = time.perf_counter()
        backward(grad_TD, number)
        measured.calls.append(time.perf_counter() - began)

    layers.forward, layers.backward = forward_timed, backward_timed  # type: ignore[method-assign]


def step(adapter: Adapter, scorer: TreeScorer, optimizer: torch.optim.Optimizer, parts: list[list[TokenRow]]) -> float:
    """One step; the seconds of the optimizer in it."""
    adapter.grad.zero_()
    for part in parts:
        scores = scorer.score(part)
        supervised_loss(scores.logprobs, scores.weights, float(scores.weights.sum())).backward()
    began = time.perf_counter()
    optimizer.step()
    return time.perf_counter() - began


def shares(shape: str, changes: dict[str, int], kind: str, steps: int) -> dict[str, float]:
    """The share of each kind of work in the time of a step."""
    model = random_model(shape, changes)
    adapter, scorer = scorer_of(package("tunesmith"), model, both=kind == "weather")
    parts = micro_batches(rows_of(kind, model.config.vocab_size))
    values = adapter.flat.detach().requires_grad_()
    values.grad = adapter.grad
    optimizer = torch.optim.AdamW([values], fused=True)
    layers = cast(CompiledLayers, scorer.stack)
    step(adapter, scorer, optimizer, parts)
    measured, times, threads = Measured(), layers.measure(), torch.get_num_threads()
    timed(layers, measured)
    for _ in range(steps):
        began = time.perf_counter()
        measured.optimizer += step(adapter, scorer, optimizer, parts)
        measured.whole += time.perf_counter() - began
    seconds = {NAMES[share]: value / threads for share, value in times.seconds().items()}
    inside = sum(measured.calls)
    seconds[REST] = inside - sum(seconds.values())
    seconds[HEAD] = measured.whole - inside - measured.optimizer
    seconds[OPTIMIZER] = measured.optimizer
    print(f"{kind}: {measured.whole / steps * 1000:,.0f} ms a step, {threads} threads", file=sys.stderr)
    return {name: value / measured.whole for name, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--layers", type=int, help="another number of layers than the shape's")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    changes = {"num_hidden_layers": options.layers} if options.layers else {}
    columns = [shares(options.shape, changes, kind, options.steps) for kind in options.only]
    print("| share of a step | " + " | ".join(options.only) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.1%}" for column in columns) + " |")


if __name__ == "__main__":
    main()
