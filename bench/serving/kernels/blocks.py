"""Products with weights of 32, 16, 8 and 4 bits: how fast each reads its weights, and beside bfloat16.

    python bench/serving/kernels/blocks.py [--rounds N] [--rows 1 2 4 8 64] [--threads 1 2] [--inputs 2048] [--cpu]

A matrix that no cache holds (64 million weights). All formats take turns in one process, so their ratios mean something
on a machine that others use too. GB/s are of the bytes as they are stored, the best round; `x bf16` is the time of
bfloat16 by this one's. `--cpu`: the process's time by its threads, on a machine that others use.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy
from numpy.typing import NDArray

from tunesmith.families.array_panels import Width, kind_of, pack, panel_bytes
from tunesmith.kernels.quantised import multiply_frozen, scratch_bytes
from tunesmith.kernels.vectors import LANES
from tunesmith.system.pages import fresh_slab

WEIGHTS = 1 << 26
WIDTHS: list[Width] = ["float32", "bfloat16", "int8", "int4"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--inputs", type=int, default=2048)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    matrices = {width: _matrix(width, options.inputs) for width in WIDTHS}
    print("| threads | rows | format | ms | GB/s | x bf16 |\n| --- | --- | --- | --- | --- | --- |")
    for threads in options.threads:
        clock = (lambda: time.process_time() / threads) if options.cpu else time.perf_counter  # noqa: B023 - used here
        for rows in options.rows:
            least = _measure(matrices, rows, options, threads, clock)
            for width, seconds in least.items():
                rate, beside = matrices[width].nbytes / seconds / 1e9, least["bfloat16"] / seconds
                print(f"| {threads} | {rows} | {width} | {seconds * 1e3:.2f} | {rate:.1f} | {beside:.2f} |", flush=True)


def _matrix(width: Width, inputs: int) -> NDArray[numpy.generic]:
    """Random panels; the time of rounding is told too."""
    rows = numpy.random.default_rng(0).standard_normal((1 << 14, inputs), dtype=numpy.float32)
    halves = (rows.view(numpy.uint32) >> 16).astype(numpy.uint16)  # bfloat16, as bases are stored
    parts = [halves] * (WEIGHTS // halves.size)
    slab = fresh_slab(panel_bytes(parts, width))
    began = time.perf_counter()
    panels = pack(parts, width, slab)
    print(
        f"packed {WEIGHTS / 1e6:.0f} million as {width}: {time.perf_counter() - began:.2f} s on one thread", flush=True
    )
    return panels


def _measure(
    matrices: dict[Width, NDArray[numpy.generic]],
    rows: int,
    options: argparse.Namespace,
    threads: int,
    clock: Callable[[], float],
) -> dict[Width, float]:
    x = numpy.random.default_rng(1).standard_normal((rows, options.inputs), dtype=numpy.float32)
    least = dict.fromkeys(matrices, float("inf"))
    with ThreadPoolExecutor(threads) as pool:
        for turn in range(options.rounds + 1):
            for width, panels in matrices.items():
                began = clock()
                list(pool.map(lambda part: _product(width, x, part), numpy.array_split(panels, threads)))  # noqa: B023
                if turn:  # the first one warms up
                    least[width] = min(least[width], clock() - began)
    return least


def _product(width: Width, x: NDArray[numpy.float32], panels: NDArray[numpy.generic]) -> None:
    (rows, inputs), count = x.shape, len(panels)
    out, scratch = numpy.empty((rows, count * LANES), numpy.float32), numpy.empty(scratch_bytes(inputs, rows), "u1")
    place = out.ctypes.data, out.strides[0], 0, 0, scratch.ctypes.data
    source, kind = (x.ctypes.data, x.strides[0]), int(kind_of(width))
    multiply_frozen(kind, rows, *source, panels.ctypes.data, inputs, count, *place)


if __name__ == "__main__":
    main()
