"""A time limit on work of one thread, which looks at it between its pieces.

A thread cannot be killed, so what may take long for some request asks here whether it may go on.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class OutOfTime(Exception):
    """The time limit has passed."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limits the block, and the threads that it waits for."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def check_time() -> None:
    """Raises OutOfTime after the limit; where there is none, it returns."""
    if time.monotonic() > _deadline.get():
        raise OutOfTime
