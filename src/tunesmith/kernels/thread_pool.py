"""Threads that run the steps of one compiled function together.

One Python thread starts a step and takes part in it; its helpers are threads that stay in compiled code and sleep
between steps. Within a step all of them meet at barriers, which take a fraction of a microsecond when everybody arrives
at the same time: a waiting thread spins for a while, then yields its core, which a training job may need just now, and
then sleeps. Work is handed out in pieces, so a thread that was held up takes fewer of them.
"""

from collections.abc import Callable
from threading import Thread

import numpy
from numba import types
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled, entry, number
from tunesmith.kernels.intrinsics import atomic_add, atomic_read, atomic_write

SPINS = 4000  # at a barrier before the core is yielded, about 10 microseconds
YIELDS = 32  # before the thread sleeps: spinning on takes time from whoever shares the core's circuits
CACHE_LINE = 64  # bytes; what different threads write is kept in different lines

# The layout of a pool's memory.
_ARRIVED, _GENERATION, _STEP, _THREADS, _CLOSED, _SLEEPERS = (CACHE_LINE * line for line in range(6))
_STEP_MUTEX, _STEP_CONDITION = CACHE_LINE * 8, CACHE_LINE * 12
_BARRIER_MUTEX, _BARRIER_CONDITION = CACHE_LINE * 16, CACHE_LINE * 20
POOL_BYTES = CACHE_LINE * 24

_lock = types.ExternalFunction("pthread_mutex_lock", types.int32(types.intp))
_unlock = types.ExternalFunction("pthread_mutex_unlock", types.int32(types.intp))
_init_mutex = types.ExternalFunction("pthread_mutex_init", types.int32(types.intp, types.intp))
_init_condition = types.ExternalFunction("pthread_cond_init", types.int32(types.intp, types.intp))
_wait = types.ExternalFunction("pthread_cond_wait", types.int32(types.intp, types.intp))
_wake_all = types.ExternalFunction("pthread_cond_broadcast", types.int32(types.intp))
_yield_core = types.ExternalFunction("sched_yield", types.int32())


@compiled
def barrier(pool: int, threads: int) -> None:
    """Returns once all `threads` have called it.

    `pool` is the address of the pool's memory, here and below.
    """
    if threads == 1:
        return
    generation = atomic_read(pool + _GENERATION)
    if atomic_add(pool + _ARRIVED, 1) == threads - 1:
        atomic_write(pool + _ARRIVED, 0)
        atomic_write(pool + _GENERATION, generation + 1)
        if atomic_read(pool + _SLEEPERS):
            _lock(pool + _BARRIER_MUTEX)
            _wake_all(pool + _BARRIER_CONDITION)
            _unlock(pool + _BARRIER_MUTEX)
        return
    spins = 0
    while atomic_read(pool + _GENERATION) == generation:
        spins += 1
        if spins > SPINS + YIELDS:
            _sleep(pool, generation)
        elif spins > SPINS:
            _yield_core()


@compiled
def _sleep(pool: int, generation: int) -> None:
    """Sleeps until the barrier opens.

    No wake-up is lost: the last thread opens the barrier before it looks for sleepers, and a sleeper counts itself
    before it looks at the barrier.
    """
    _lock(pool + _BARRIER_MUTEX)
    atomic_add(pool + _SLEEPERS, 1)
    while atomic_read(pool + _GENERATION) == generation:
        _wait(pool + _BARRIER_CONDITION, pool + _BARRIER_MUTEX)
    atomic_add(pool + _SLEEPERS, -1)
    _unlock(pool + _BARRIER_MUTEX)


@compiled
def claim(counter: int) -> int:
    """The next piece of work that no thread has taken, counted from 0."""
    return atomic_add(counter, 1)


@compiled
def counter_of(counters: int, phase: int) -> int:
    """The address of a phase's counter.

    `counters`: that of the first phase of its group.
    """
    return counters + phase * CACHE_LINE


@compiled
def start_step(pool: int, threads: int) -> None:
    """Wakes `threads` - 1 helpers for a step."""
    _lock(pool + _STEP_MUTEX)
    atomic_write(pool + _THREADS, threads)
    atomic_add(pool + _STEP, 1)
    _wake_all(pool + _STEP_CONDITION)
    _unlock(pool + _STEP_MUTEX)


@compiled
def next_step(pool: int, seen: int) -> int:
    """Sleeps until there is a step after `seen`.

    Returns its number, or -1 once the pool is closed.
    """
    _lock(pool + _STEP_MUTEX)
    while atomic_read(pool + _STEP) == seen and atomic_read(pool + _CLOSED) == 0:
        _wait(pool + _STEP_CONDITION, pool + _STEP_MUTEX)
    step = -1 if atomic_read(pool + _CLOSED) else atomic_read(pool + _STEP)
    _unlock(pool + _STEP_MUTEX)
    return step


@compiled
def step_threads(pool: int) -> int:
    """How many threads take part in the current step."""
    return atomic_read(pool + _THREADS)


@entry
def initialize(memory: NDArray[numpy.uint8]) -> None:
    """Makes zeroed memory [POOL_BYTES] a pool's."""
    pool = number(memory.ctypes.data)
    _init_mutex(pool + _STEP_MUTEX, 0)
    _init_condition(pool + _STEP_CONDITION, 0)
    _init_mutex(pool + _BARRIER_MUTEX, 0)
    _init_condition(pool + _BARRIER_CONDITION, 0)


@entry
def close(memory: NDArray[numpy.uint8]) -> None:
    """Ends the helpers: `next_step` returns -1 to each of them."""
    pool = number(memory.ctypes.data)
    _lock(pool + _STEP_MUTEX)
    atomic_write(pool + _CLOSED, 1)
    _wake_all(pool + _STEP_CONDITION)
    _unlock(pool + _STEP_MUTEX)


MOST_THREADS = 64  # of one pool, the caller among them


class ThreadPool:
    """The helpers of one caller, started when they are first needed.

    Owns the memory that `address` points to and that barriers and steps use; it must outlive every step.
    """

    def __init__(self, most: int, work: Callable[[int], None]) -> None:
        """Has at most `most` - 1 helpers, each of which runs `work(thread)`.

        `work` returns when the pool is closed; threads are counted from 1, since 0 is the caller.
        """
        self._memory = aligned_zeros(POOL_BYTES)
        self._most, self._work = most, work
        self._helpers: list[Thread] = []
        initialize(self._memory)

    @property
    def address(self) -> int:
        """The `pool` field of a step's arguments."""
        return self._memory.ctypes.data

    def gather(self, threads: int) -> int:
        """Starts the helpers that `threads` threads need; how many threads there will be."""
        threads = min(threads, self._most)
        while len(self._helpers) < threads - 1:
            thread = len(self._helpers) + 1
            self._helpers.append(
                Thread(target=self._work, args=(thread,), name=f"tunesmith-kernel-{thread}", daemon=True)
            )
            self._helpers[-1].start()
        return threads

    def close(self) -> None:
        """Ends the helpers and waits for them."""
        close(self._memory)
        for helper in self._helpers:
            helper.join()


def aligned_zeros(size: int) -> NDArray[numpy.uint8]:
    """Zeros [size] that begin with a cache line."""
    memory = numpy.zeros(size + CACHE_LINE, numpy.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    return memory[first : first + size]
