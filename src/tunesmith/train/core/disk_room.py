"""Writes of a run that wait for room on a full disk, instead of failing it.

Not covered: a disk that accepts bytes and loses them later, when it is synced.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tunesmith.errors import TrainerError
from tunesmith.system.disk import free_bytes, is_full
from tunesmith.train.core.interrupt import Interrupt, Stopped
from tunesmith.train.protocol.events import Listener, Log

WAIT_SECONDS = 600.0  # as long as a job waits for a database that is gone
PAUSE_SECONDS = 0.5  # between two tries
LITTLE = 4096  # bytes of a small file: a block

ResultT = TypeVar("ResultT")


class NoRoom(TrainerError):
    """The disk was full for `WAIT_SECONDS`."""


class Patience:
    """Repeats writes until there is room.

    A signal ends the waiting with `Stopped`.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._gave_up = False

    def write(self, write: Callable[[], ResultT], told: Callable[[], None] = lambda: None) -> ResultT:
        """What `write` returns, once there is room for it.

        `told` is called before the first pause.
        Raises the error of the disk after `WAIT_SECONDS`, and from then on at once.
        """
        since: float | None = None
        while True:
            try:
                return write()
            except Exception as error:
                if not is_full(error) or self._has_passed(since):
                    raise
            if since is None:
                since = time.monotonic()
                told()
            with self._interrupt.interruptible():
                time.sleep(PAUSE_SECONDS)

    def _has_passed(self, since: float | None) -> bool:
        self._gave_up = self._gave_up or (since is not None and time.monotonic() - since > WAIT_SECONDS)
        return self._gave_up


class DiskRoom:
    """Room on the disk of `folder`, for which a run waits.

    Its owner is told by events.
    """

    def __init__(self, folder: Path, emit: Listener, interrupt: Interrupt) -> None:
        self.emit = emit
        self._folder = folder
        self._patience = Patience(interrupt)

    def write(self, what: str, needed: int, write: Callable[[], ResultT]) -> ResultT:
        """What `write` returns, once there is room for it.

        It writes `what`, of about `needed` bytes.
        `write` may be called several times. Raises NoRoom after `WAIT_SECONDS`.
        """
        began: list[float] = []

        def told() -> None:
            began.append(time.monotonic())
            limit = f"up to {WAIT_SECONDS / 60:g} minutes"
            self.emit(Log("warn", f"{self._lack(what, needed)}. Training waits for room, for {limit}"))

        try:
            result = self._patience.write(write, told)
        except Stopped:
            raise Stopped(f"for want of room on the disk, {what} is not saved") from None
        except Exception as error:
            if not is_full(error):
                raise
            text = f"{self._lack(what, needed)}, after {WAIT_SECONDS / 60:g} minutes of waiting for room."
            raise NoRoom(f"{text} Free some space there, then create the job again.", code="disk_full") from error
        if began:
            seconds = time.monotonic() - began[0]
            self.emit(Log("info", f"There is room on the server's disk again, after {seconds:.1f} s: training goes on"))
        return result

    def _lack(self, what: str, needed: int) -> str:
        free = free_bytes(self._folder)
        return f"The server's disk is full: {what} needs about {needed:,} bytes, and {free:,} are free"
