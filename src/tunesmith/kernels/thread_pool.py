"""Threads that take a compiled function's steps together.

One Python thread starts a step and works on it; its helpers are threads that stay in compiled code and sleep between
steps. Within a step they meet at barriers, which cost a fraction of a microsecond where everybody is there: who waits
looks for a while, offers its core to others, since a core may belong to a training job just now, and then sleeps. Work
is handed out in pieces, so that a thread that was held up takes fewer.
"""

from collections.abc import Callable
from threading import Thread

import numpy
from numba import types

from tunesmith.kernels.compiled import compiled, entry
from tunesmith.kernels.vectors import atomic_add, atomic_read, atomic_write

LOOKS = 4000  # at a barrier before a core is offered to others, about 10 microseconds
OFFERS = 32  # before it is left to them: who looks on takes time from whoever shares the core's circuits
LINE = 64  # bytes of a cache line: what different threads write stands in different ones

# Lines of a team's memory.
_ARRIVED, _OPENED, _STEP, _THREADS, _CLOSED, _SLEEPERS = (LINE * line for line in range(6))
_MUTEX, _CONDITION, _DOOR, _DOOR_OPENED = LINE * 8, LINE * 12, LINE * 16, LINE * 20
BYTES = LINE * 24

_lock = types.ExternalFunction("pthread_mutex_lock", types.int32(types.intp))
_unlock = types.ExternalFunction("pthread_mutex_unlock", types.int32(types.intp))
_init_mutex = types.ExternalFunction("pthread_mutex_init", types.int32(types.intp, types.intp))
_init_condition = types.ExternalFunction("pthread_cond_init", types.int32(types.intp, types.intp))
_wait = types.ExternalFunction("pthread_cond_wait", types.int32(types.intp, types.intp))
_wake = types.ExternalFunction("pthread_cond_broadcast", types.int32(types.intp))
_offer_core = types.ExternalFunction("sched_yield", types.int32())


@compiled
def barrier(team: int, threads: int) -> None:
    """Nobody goes on before all `threads` are here."""
    if threads == 1:
        return
    opened = atomic_read(team + _OPENED)
    if atomic_add(team + _ARRIVED, 1) == threads - 1:
        atomic_write(team + _ARRIVED, 0)
        atomic_write(team + _OPENED, opened + 1)
        if atomic_read(team + _SLEEPERS):
            _lock(team + _DOOR)
            _wake(team + _DOOR_OPENED)
            _unlock(team + _DOOR)
        return
    looks = 0
    while atomic_read(team + _OPENED) == opened:
        looks += 1
        if looks > LOOKS + OFFERS:
            _sleep(team, opened)
        elif looks > LOOKS:
            _offer_core()


@compiled
def _sleep(team: int, opened: int) -> None:
    """Until the barrier opens. Who opens it looks for sleepers after that, who sleeps looks at it after saying so."""
    _lock(team + _DOOR)
    atomic_add(team + _SLEEPERS, 1)
    while atomic_read(team + _OPENED) == opened:
        _wait(team + _DOOR_OPENED, team + _DOOR)
    atomic_add(team + _SLEEPERS, -1)
    _unlock(team + _DOOR)


@compiled
def claim(counter: int) -> int:
    """The next piece of work, from 0."""
    return atomic_add(counter, 1)


@entry
def prepare(team: int) -> None:
    _init_mutex(team + _MUTEX, 0)
    _init_condition(team + _CONDITION, 0)
    _init_mutex(team + _DOOR, 0)
    _init_condition(team + _DOOR_OPENED, 0)


@compiled
def begin(team: int, threads: int) -> None:
    """Wakes `threads` - 1 helpers for a step."""
    _lock(team + _MUTEX)
    atomic_write(team + _THREADS, threads)
    atomic_add(team + _STEP, 1)
    _wake(team + _CONDITION)
    _unlock(team + _MUTEX)


@entry
def close(team: int) -> None:
    _lock(team + _MUTEX)
    atomic_write(team + _CLOSED, 1)
    _wake(team + _CONDITION)
    _unlock(team + _MUTEX)


@compiled
def next_step(team: int, seen: int) -> int:
    """Sleeps until there is a step after `seen`; its number, or -1 when the team is closed."""
    _lock(team + _MUTEX)
    while atomic_read(team + _STEP) == seen and atomic_read(team + _CLOSED) == 0:
        _wait(team + _CONDITION, team + _MUTEX)
    step = -1 if atomic_read(team + _CLOSED) else atomic_read(team + _STEP)
    _unlock(team + _MUTEX)
    return step


@compiled
def wanted_threads(team: int) -> int:
    """Threads of the step."""
    return atomic_read(team + _THREADS)


class Team:
    """The helpers of one caller, at most `most` - 1, started when they are first needed."""

    def __init__(self, most: int, work: Callable[[int], None]) -> None:
        """`work(member)` is what a helper runs; it returns when the team is closed."""
        self._memory = numpy.zeros(BYTES + LINE, numpy.uint8)
        self.address = -(-self._memory.ctypes.data // LINE) * LINE
        self._most, self._work = most, work
        self._workers: list[Thread] = []
        prepare(self.address)

    def gather(self, threads: int) -> int:
        """How many of `threads` there will be."""
        threads = min(threads, self._most)
        while len(self._workers) < threads - 1:
            member = len(self._workers) + 1
            self._workers.append(
                Thread(target=self._work, args=(member,), name=f"tunesmith-kernel-{member}", daemon=True)
            )
            self._workers[-1].start()
        return threads

    def close(self) -> None:
        close(self.address)
        for helper in self._workers:
            helper.join()
