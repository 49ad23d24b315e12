"""A step of the compiled layers and one of the base's own modules over the token tree, in turn: what compiling wins.

    python bench/training/paths.py [--shape NAME] [--only KIND ...] [--rounds N] [--layers N] [--threads 1 --cpu]

The model has random weights of a real shape and its frozen weights repacked on both paths. The first round warms up.
Printed: the ratio of medians (compiled over tree), its quartiles over the rounds, both medians, and the distance of
the gradients over their norm.
"""

import argparse
import gc
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.training.step_rows import KINDS, SHAPES, adapter_of, micro_batches, random_model, rows_of, scorer_of
from bench.training.variants import Side, compare, package

from tunesmith.train.paths.accelerate import accelerate
from tunesmith.train.paths.layer_stack import TorchLayers
from tunesmith.train.paths.scoring import TreeScorer


def tree_side(shape: str, changes: dict[str, int]) -> Side:
    """The path of families that are not compiled."""
    model = random_model(shape, changes)
    adapter = adapter_of(sys.modules["tunesmith"], model)
    accelerate(model)
    scorer = TreeScorer(model, TorchLayers(model))
    adapter.pack_frozen()
    scorer.pack_head()
    return Side(adapter, scorer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="gemma-3-270m")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, help="another number of layers than the shape's")
    parser.add_argument("--vocabulary", type=int, help="another size of the vocabulary, such as 1024: layers alone")
    parser.add_argument("--threads", type=int, help="as many as there are processors unless given")
    parser.add_argument("--cpu", action="store_true", help="the process's time, on a machine that others use too")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter
    if options.threads:
        torch.set_num_threads(options.threads)
    changes = {"num_hidden_layers": options.layers, "vocab_size": options.vocabulary}
    changes = {name: value for name, value in changes.items() if value}
    tunesmith = package("tunesmith")
    print("| rows | compiled / tree | of rounds (quartiles) | of best | ms | ms of the tree | gradients apart |")
    for kind in options.only:
        model = random_model(options.shape, changes)
        vocabulary = model.config.vocab_size
        sides = [Side(*scorer_of(tunesmith, model, both=kind == "weather")), tree_side(options.shape, changes)]
        del model
        print(
            f"| {kind} | {compare(sides, micro_batches(rows_of(kind, vocabulary)), options.rounds, clock)} |",
            flush=True,
        )
        del sides
        gc.collect()


if __name__ == "__main__":
    main()
