"""A frozen base in bfloat16 beside float32, in training: milliseconds of passes in turn within one process.

    python bench/training/widths.py [--rounds N] [--shape qwen3-0.6b | llama3.2-1b | qwen3-1.7b | llama3.2-3b]

Two layers of the shape with random weights, forward and backward on rows of several sizes; then the output layer on
slices of several sizes, in panels of both formats and in oneDNN's blocked layouts. Medians; the ratio is to float32
panels. The machine has to be idle otherwise.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from sys import path as import_path
from typing import cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tunesmith.settings import TrainingOptions
from tunesmith.system.cpu import cpu_count
from tunesmith.train.adapters.lora import attach
from tunesmith.train.core.packing import Packed, TokenRow, pack
from tunesmith.train.layers.frozen_weights import FrozenHead, FrozenMatrix
from tunesmith.train.layers.wide_modules import widen_vectors
from tunesmith.train.paths.compiled import CompiledLayers

import_path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.shapes import SHAPES

ROWS, SLICES, LAYERS = (94, 400), (16, 27, 85), 2
Run = Callable[[], None]


def made(shape: dict[str, object], dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(0)
    values = {name: value for name, value in shape.items() if name != "model_type"} | {"num_hidden_layers": LAYERS}
    config = AutoConfig.for_model(str(shape["model_type"]), **values, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).requires_grad_(False)
    return model.to(dtype)


def layers_of(model: PreTrainedModel) -> CompiledLayers:
    widen_vectors(model)
    adapter = attach(model, TrainingOptions(lora_rank=16), 0, model.get_output_embeddings())
    return CompiledLayers(model, adapter)


def head_of(model: PreTrainedModel) -> nn.Linear:
    return cast(nn.Linear, model.get_output_embeddings())


def rows_of(count: int) -> Packed:
    return pack([TokenRow(tuple(range(3, 3 + count)), (1.0,) * count)])


def step(layers: CompiledLayers, packed: Packed) -> Run:
    def run() -> None:
        output, number = layers.forward(packed)
        layers.backward(output, number)

    return run


def head_pass(head: FrozenHead, hidden: torch.Tensor) -> Run:
    def run() -> None:
        head.grad_input(head.logits(hidden))

    return run


def in_turn(ways: dict[str, Run], rounds: int) -> dict[str, float]:
    """Median milliseconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            if number:  # the first one warms up
                taken[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in taken.items()}


def show(title: str, medians: dict[str, float]) -> None:
    reference = medians["float32"]
    cells = "  ".join(f"{name} {value:8.1f} ms ({value / reference:.3f})" for name, value in medians.items())
    print(f"{title:24} {cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    options = parser.parse_args()
    torch.set_num_threads(cpu_count())
    models = {name: made(SHAPES[options.shape], getattr(torch, name)) for name in ("float32", "bfloat16")}
    blocked = FrozenMatrix(copy.deepcopy(head_of(models["float32"])))
    blocked.pack()
    heads = {name: head_of(model) for name, model in models.items()}
    layers = {name: layers_of(model) for name, model in models.items()}
    for count in ROWS:
        packed = rows_of(count)
        show(f"layers, {count} tokens", in_turn({n: step(one, packed) for n, one in layers.items()}, options.rounds))
    taken: dict[str, FrozenHead] = {name: one.take_head(heads[name]) for name, one in layers.items()}
    taken["blocked"] = blocked
    for count in SLICES:
        hidden = torch.randn(count, int(str(SHAPES[options.shape]["hidden_size"])))
        show(f"head, {count} rows", in_turn({n: head_pass(one, hidden) for n, one in taken.items()}, options.rounds))


if __name__ == "__main__":
    main()
