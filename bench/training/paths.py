"""A step of the compiled layers and one of the base's own modules over the token tree, in turn: what compiling wins.

    python bench/training/paths.py [--shape NAME] [--only KIND ...] [--rounds N] [--layers N] [--threads 1 --cpu]

The model has random weights of a real shape and its frozen weights repacked on both paths. The first round warms up.
Printed: the ratio of medians (compiled over tree), its quartiles over the rounds, both medians, and the distance of
the gradients over their norm.
"""

import argparse
import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.training.step_rows import adapter_of, micro_batches, random_model, rows_of, scorer_of
from bench.training.variants import Side, compare, package, step_options

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
    options, changes, clock = step_options(parser, shape="gemma-3-270m", rounds=7)
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
