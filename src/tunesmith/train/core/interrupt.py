"""SIGTERM as an exception, except while parameters change.

A stopped step leaves no trace; a finished one is kept.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """The process was asked to end.

    Its text, if any, says what was lost by it.
    """

    kept = "the progress is saved"


class RankLost(Stopped):
    """Another rank of the run has ended before it; the text says which and how."""


class Interrupt:
    """Turns SIGTERM and SIGINT into `Stopped`.

    Inside `interruptible()` a signal raises at once; elsewhere it waits for the next such block. In a gentle one it
    only sets `asked`, and what a thread has to `end` for raises.
    """

    def __init__(self) -> None:
        self._reason: BaseException | None = None  # what is raised, once there is a reason to
        self._open = self._gentle = False
        self.asked = False  # by a signal, which was the first reason

    def install(self) -> None:
        """Handles the signals from here on; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @contextmanager
    def interruptible(self, *, gently: bool = False) -> Iterator[None]:
        """A block that a signal may interrupt at any place; `gently`: only a loss."""
        before = self._open, self._gentle
        self._open, self._gentle = True, gently
        try:
            self._raise()
            yield
        finally:
            self._open, self._gentle = before

    def end(self, reason: BaseException) -> None:
        """Raises `reason` as a signal would raise `Stopped`; for threads."""
        if self._reason is None or (self.asked and self._gentle):
            self._reason, self.asked = reason, False
            os.kill(os.getpid(), signal.SIGTERM)  # its handler runs in the main thread

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._reason is None:
            self._reason, self.asked = Stopped(), True
        if self._open:
            self._raise()

    def _raise(self) -> None:
        if self._reason is not None and not (self.asked and self._gentle):
            raise self._reason
