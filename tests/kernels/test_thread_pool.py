"""Threads of a pool: pieces of work, barriers and steps, on one to three of them."""

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled
from tunesmith.kernels.records import new_counters
from tunesmith.kernels.serving.step_args import LAYER_PHASES, STEP_PHASES, LayerPhase, StepPhase, phases
from tunesmith.kernels.thread_pool import (
    CACHE_LINE,
    ThreadPool,
    barrier,
    claim,
    counter_of,
    next_step,
    start_step,
    step_threads,
)
from tunesmith.kernels.training.step_args import (
    BACKWARD_PHASES,
    FORWARD_PHASES,
    BackwardPhase,
    ForwardPhase,
    train_phases,
)

PIECES, ROUNDS, STEPS = 40, 30, 25
MOST = 3


@compiled
def rounds(
    thread: int, threads: int, pool: int, counters: int, taken: NDArray[numpy.int64], seen: NDArray[numpy.int64]
) -> None:
    """In each round every piece is counted once in `taken`; after a barrier each thread writes what it sees of all."""
    for phase in range(ROUNDS):
        piece = claim(counter_of(counters, phase))
        while piece < PIECES:
            taken[phase, piece] += 1
            piece = claim(counter_of(counters, phase))
        barrier(pool, threads)
        for number in range(PIECES):
            seen[thread, phase] += taken[phase, number]


@compiled
def work(
    thread: int, threads: int, pool: int, counters: int, taken: NDArray[numpy.int64], seen: NDArray[numpy.int64]
) -> None:
    """As the steps of kernels: thread 0 runs one, the others theirs until the pool is closed."""
    if thread == 0:
        if threads > 1:
            start_step(pool, threads)
        rounds(thread, threads, pool, counters, taken, seen)
        barrier(pool, threads)
        return
    step = next_step(pool, 0)
    while step >= 0:
        threads = step_threads(pool)
        if thread < threads:
            rounds(thread, threads, pool, counters, taken, seen)
            barrier(pool, threads)
        step = next_step(pool, step)


class Bench:
    """A pool and what its threads write."""

    def __init__(self) -> None:
        self.counters = new_counters(ROUNDS)
        self.taken = numpy.zeros((ROUNDS, PIECES), numpy.int64)
        self.seen = numpy.zeros((MOST, ROUNDS), numpy.int64)
        self.pool = ThreadPool(MOST, lambda thread: self.run(thread, 0))

    def run(self, thread: int, threads: int) -> None:
        work(thread, threads, self.pool.address, self.counters.ctypes.data, self.taken, self.seen)

    def step(self, threads: int) -> None:
        for array in (self.counters, self.taken, self.seen):
            array.fill(0)
        self.run(0, self.pool.gather(threads))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.pool.close()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_piece_is_taken_once_and_seen_after_the_barrier(threads: int, bench: Bench) -> None:
    for _ in range(STEPS):
        bench.step(threads)
        assert (bench.taken == 1).all()
        assert (bench.seen[:threads] == PIECES).all()
        assert (bench.seen[threads:] == 0).all()


def test_steps_may_have_more_and_fewer_threads_than_the_one_before(bench: Bench) -> None:
    for threads in (3, 1, 2, 3, 2, 1, 3):
        bench.step(threads)
        assert [bool(row.any()) for row in bench.seen] == [thread < threads for thread in range(MOST)]


def test_a_pool_has_no_more_threads_than_it_was_made_for(bench: Bench) -> None:
    assert bench.pool.gather(64) == MOST


def helpers() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("tunesmith-kernel"))


def test_helpers_start_when_needed_and_end_with_the_pool() -> None:
    gc.collect()  # of runners that other tests have left
    before, bench = helpers(), Bench()
    bench.step(1)
    assert helpers() == before
    bench.step(2)
    assert helpers() == sorted([*before, "tunesmith-kernel-1"])
    bench.pool.close()
    assert helpers() == before


def test_a_barrier_waits_for_one_that_is_late_and_wakes_who_sleeps() -> None:
    """Half a second is many times longer than a thread spins and yields."""
    pool, times = ThreadPool(1, lambda thread: None), [0.0, 0.0]

    def meet(thread: int) -> None:
        if thread:
            time.sleep(0.5)
        barrier(pool.address, 2)
        times[thread] = time.perf_counter()

    barrier(pool.address, 1)  # alone nobody waits; compiles it
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(meet, range(2)))
    assert min(times) - started >= 0.5


def test_a_pool_begins_with_a_cache_line() -> None:
    assert all(ThreadPool(1, lambda thread: None).address % CACHE_LINE == 0 for _ in range(5))


def test_each_phase_has_a_cache_line_for_its_counter() -> None:
    counters = new_counters(5)
    assert counters.strides[0] == CACHE_LINE
    assert not counters.any()
    address = counters.ctypes.data
    assert [counter_of(address, phase) - address for phase in range(5)] == [CACHE_LINE * phase for phase in range(5)]
    assert [claim(counter_of(address, 3)) for _ in range(4)] == [0, 1, 2, 3]
    assert counters[:, 0].tolist() == [0, 0, 0, 4, 0]


def test_phases_are_counted_by_their_enums() -> None:
    for enum in (StepPhase, LayerPhase, ForwardPhase, BackwardPhase):
        assert list(enum) == list(range(len(enum)))
    assert phases(3) == STEP_PHASES + 3 * LAYER_PHASES
    assert train_phases(3) >= 1 + 3 * max(FORWARD_PHASES, BACKWARD_PHASES)
