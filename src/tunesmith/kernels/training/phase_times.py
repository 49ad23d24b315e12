"""Where the time of a step goes: nanoseconds of each thread, by kinds of work.

Off unless `TrainStepArgs.times` points to a table; then each lap reads the clock once, some 40 nanoseconds for pieces
of work of 10 microseconds and more. Without it a lap is one comparison.
"""

import time
from enum import IntEnum

import numpy
from numba import types
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled, number
from tunesmith.kernels.elementwise import table
from tunesmith.kernels.thread_pool import MOST_THREADS, barrier
from tunesmith.kernels.vectors import no_inline


class Share(IntEnum):
    """What a thread's time is counted for."""

    PRODUCTS_FORWARD = 0  # with the frozen matrices
    PRODUCTS_BACK = 1
    PANELS = 2  # of transposed weights, made for the backward pass
    ATTENTION_FORWARD = 3
    ATTENTION_BACK = 4
    LOW_RANK = 5  # products with a and b and their gradients, and repacking these
    ACTIVATION = 6  # SiLU, its gradient, and in the backward pass the MLP's norm
    NORMS = 7
    ROTATION = 8  # norms of heads, rotary embedding, copies of keys and values
    WAITING = 9  # at barriers


_NOW, _LAST, _FIRST = 0, 2, 3  # of a thread's row: a timespec, the last lap, the shares
ROW_NUMBERS = 16  # two cache lines
_CLOCK = time.CLOCK_MONOTONIC
_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))


@compiled
def thread_times(times: int, thread: int) -> int:
    """The row of a thread in the table at `times`, which begins to count.

    0: nothing is measured.
    """
    if times == 0:
        return 0
    row = times + thread * ROW_NUMBERS * 8
    numbers = table(row, number(1), number(ROW_NUMBERS))
    numbers[0, _LAST] = _now(row)
    return row


@compiled
def lap(times: int, share: int) -> None:
    """Counts the time since this thread's last lap for a share.

    `times`: what `thread_times` gave.
    """
    if times:
        _add(times, share)


@compiled
def meet(pool: int, threads: int, times: int, share: int) -> None:
    """A lap, a barrier, and another lap, for waiting."""
    lap(times, share)
    barrier(pool, threads)
    lap(times, Share.WAITING)


@compiled
def _add(times: int, share: int) -> None:
    no_inline()
    numbers, now = table(times, number(1), number(ROW_NUMBERS)), _now(times)
    numbers[0, _FIRST + share] += now - numbers[0, _LAST]
    numbers[0, _LAST] = now


@compiled
def _now(row: int) -> int:
    """Nanoseconds since any moment."""
    _clock_gettime(_CLOCK, row + _NOW * 8)
    numbers = table(row, number(1), number(2))
    now: int = numbers[0, 0] * 1_000_000_000 + numbers[0, 1]
    return now


class PhaseTimes:
    """The table of a step's times, which the step's `times` points to."""

    def __init__(self) -> None:
        self._table: NDArray[numpy.int64] = numpy.zeros((MOST_THREADS, ROW_NUMBERS), numpy.int64)

    @property
    def address(self) -> int:
        """The `times` field of a step's arguments."""
        return self._table.ctypes.data

    def seconds(self) -> dict[Share, float]:
        """Of each share, the sum over the threads since `clear`."""
        sums = self._table[:, _FIRST:].sum(0)
        return {share: float(sums[share]) / 1e9 for share in Share}

    def clear(self) -> None:
        """Begins to count anew."""
        self._table.fill(0)
