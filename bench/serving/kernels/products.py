"""Products of few rows with a weight in panels, by this tree and by an earlier revision in turn: decoding's hot path.

    python bench/serving/kernels/products.py [--before REVISION] [--rounds N] [--cpu]

Sizes of a layer of SmolLM2-135M's MLP, float16 and float32, 1 to 16 rows, one thread: microseconds now and before, and
their ratio, each the least of all rounds. The results must be the same to the bit.
"""

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from bench.training.variants import unpack

INS, PANELS, LANES = 576, 192, 16
CALLS = 8  # of one measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="HEAD", help="a revision, or a folder with src/tunesmith")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--cpu", action="store_true", help="the process's time, on a machine that others use too")
    options = parser.parse_args()
    clock = time.process_time_ns if options.cpu else time.perf_counter_ns
    random = numpy.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        names = ["tunesmith", unpack(options.before, Path(folder))]
        products = [importlib.import_module(f"{name}.kernels.multiply").multiply for name in names]
        print("| rows | numbers | us | us before | ratio |")
        for dtype in (numpy.float16, numpy.float32):
            weight = random.standard_normal((PANELS, INS, LANES)).astype(dtype)
            for rows in (1, 2, 4, 6, 7, 8, 12, 13, 14, 16):
                x = random.standard_normal((rows, INS), dtype=numpy.float32)
                outs = [numpy.zeros((rows, PANELS * LANES), numpy.float32) for _ in products]
                least = [10**12, 10**12]
                for turn in range(options.rounds):
                    for index in (0, 1) if turn % 2 else (1, 0):
                        least[index] = min(least[index], _measure(products[index], clock, x, weight, outs[index]))
                assert numpy.array_equal(outs[0], outs[1])
                now, before = (nanoseconds / CALLS / 1000 for nanoseconds in least)
                print(f"| {rows} | {dtype.__name__} | {now:.0f} | {before:.0f} | {now / before:.3f} |", flush=True)


def _measure(product: Any, clock: Any, x: Any, weight: Any, out: Any) -> int:
    half, place = int(weight.dtype == numpy.float16), (out.ctypes.data, out.strides[0])
    w, (rows, ins) = (weight.ctypes.data, weight.strides[0]), x.shape
    began: int = clock()
    for _ in range(CALLS):
        product(half, rows, x.ctypes.data, x.strides[0], *w, ins, len(weight), *place, 0, 0)
    return int(clock()) - began


if __name__ == "__main__":
    main()
