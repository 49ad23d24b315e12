"""SIGTERM as an exception, except while parameters change.

A stopped step leaves no trace; a finished one is kept.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """The process was asked to end.

    Its text, if any, says what was lost by it.
    """


class Interrupt:
    """Turns SIGTERM and SIGINT into `Stopped`.

    Inside `interruptible()` a signal raises at once; elsewhere it waits for the next such block.
    """

    def __init__(self) -> None:
        self._requested = False
        self._open = False

    def install(self) -> None:
        """Handles the signals from here on; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that a signal may interrupt at any place."""
        before, self._open = self._open, True
        try:
            if self._requested:
                raise Stopped
            yield
        finally:
            self._open = before

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        if self._open:
            raise Stopped
