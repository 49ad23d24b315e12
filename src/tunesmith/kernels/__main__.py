"""`python -m tunesmith.kernels` compiles what serving and training need.

The first model need not wait then. Each mode is compiled in a process of its own; `python -m tunesmith.kernels serving`
is one of them.
"""

import subprocess
import sys

import numpy

from tunesmith.kernels.compiler import command
from tunesmith.kernels.records import Records, new_counters
from tunesmith.kernels.serving.step_args import LAYER, MATRIX, STEP_ARGS
from tunesmith.kernels.thread_pool import ThreadPool
from tunesmith.kernels.training.step_args import LORA_PART, TRAIN_LAYER, TRAIN_MATRIX, TRAIN_STEP_ARGS


def compile_serving() -> None:
    """Packs no panels, and runs a step of a model without layers over no tokens."""
    from tunesmith.kernels.serving.packing import PACK_ARGS, pack_squares
    from tunesmith.kernels.serving.step import serving_step

    pack_squares(numpy.zeros(1, PACK_ARGS))
    _compile_rounding()
    serving_step(0, 1, _empty(STEP_ARGS), numpy.zeros(1, LAYER), numpy.zeros(1, MATRIX))


def compile_training() -> None:
    """Runs a forward pass of a model without layers, over no tokens."""
    from tunesmith.kernels.training.step import training_step

    _compile_rounding()

    layers, matrices, parts = (numpy.zeros(1, kind) for kind in (TRAIN_LAYER, TRAIN_MATRIX, LORA_PART))
    training_step(0, 1, _empty(TRAIN_STEP_ARGS), layers, matrices, parts)


def _compile_rounding() -> None:
    from tunesmith.kernels.rounding import ROUND_ARGS, read_panels, round_panels

    round_panels(numpy.zeros(1, ROUND_ARGS))
    read_panels(numpy.zeros(1, ROUND_ARGS))


def _empty(kind: "numpy.dtype[numpy.void]") -> Records:
    """Arguments of a step with nothing to do; what they point to is kept in `_kept`."""
    step = numpy.zeros(1, kind)
    _kept.extend((pool := ThreadPool(1, lambda thread: None), counters := new_counters(1)))
    step["pool"], step["counters"] = pool.address, counters.ctypes.data
    return step


_kept: list[object] = []
MODES = {"serving": compile_serving, "training": compile_training}


def main(arguments: list[str]) -> int:
    """Compiles one mode, or all of them at the same time; the exit code."""
    if arguments:
        MODES[arguments[0]]()
        return 0
    processes = [subprocess.Popen(command(mode)) for mode in MODES]
    return max([abs(process.wait()) for process in processes])


sys.exit(main(sys.argv[1:]))
