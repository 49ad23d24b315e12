"""`python -m tunesmith.kernels`: compiles what serving and training need, so that the first model need not wait.

Each in a process of its own; `python -m tunesmith.kernels serving` is one of these.
"""

import subprocess
import sys

import numpy
from numpy.typing import NDArray

from tunesmith.kernels.step_args import COUNTER_BYTES, JOB, LAYER, LINE
from tunesmith.kernels.thread_pool import Team
from tunesmith.kernels.train_args import PART, STEP, TRAIN_LAYER, TRAIN_LINE


def make_serving() -> None:
    """A step of a model without layers, over no tokens."""
    from tunesmith.kernels.forward import work

    jobs = _empty(JOB)
    work(0, 1, jobs, numpy.zeros(1, LAYER), numpy.zeros(1, LINE))


def make_training() -> None:
    from tunesmith.kernels.train_step import train

    train(0, 1, _empty(STEP), numpy.zeros(1, TRAIN_LAYER), numpy.zeros(1, TRAIN_LINE), numpy.zeros(1, PART))


def _empty(kind: "numpy.dtype[numpy.void]") -> NDArray[numpy.void]:
    """A step's description that says: nothing to do. It keeps what it points to."""
    step = numpy.zeros(1, kind)
    _held.extend((team := Team(1, lambda member: None), counters := numpy.zeros(COUNTER_BYTES, numpy.uint8)))
    step["team"], step["counters"] = team.address, counters.ctypes.data
    return step


_held: list[object] = []
WAYS = {"serving": make_serving, "training": make_training}


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments:
        WAYS[arguments[0]]()
        return 0
    makers = [subprocess.Popen([sys.executable, "-m", "tunesmith.kernels", way]) for way in WAYS]
    return max([abs(maker.wait()) for maker in makers])


sys.exit(main(sys.argv[1:]))
