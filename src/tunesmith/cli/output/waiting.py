"""What a command waits for, shown with the seconds it has taken so far."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.status import Status

from tunesmith.cli.output.terminal import duration, err, note

LOOK_SECONDS = 0.5  # between two looks at what is being done
FIRST_LINE_SECONDS = 0.8  # without a terminal nothing is said of shorter waits
LINE_SECONDS = 10.0  # the least between two lines without a terminal


def nothing_known() -> str | None:
    """What is being done, where nobody can tell."""
    return None


class Waiting:
    """A spinner on stderr until the block ends.

    Without a terminal it is a line now and then.

    `doing` says what is waited for; `detail` is asked twice a second for what is being done right now, if known.
    """

    def __init__(self, doing: str, detail: Callable[[], str | None] = nothing_known) -> None:
        self._doing = doing
        self._detail = detail
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._status: Status | None = None
        self._thread = threading.Thread(target=self._follow, name="waiting", daemon=True)

    def __enter__(self) -> Self:
        if err().is_terminal:
            self._status = err().status(escape(self._text()))
            self._status.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._status is not None:
            self._status.stop()

    def _follow(self) -> None:
        look, first, between = self._pace()
        next_line = self._started + first
        while not self._ended.wait(look):
            if self._status is not None:
                self._status.update(escape(self._text()))
            elif time.monotonic() >= next_line:
                next_line = time.monotonic() + between - look / 2
                note(self._text())

    def _pace(self) -> tuple[float, float, float]:
        """Seconds between two looks, before the first line, and between two lines."""
        return LOOK_SECONDS, FIRST_LINE_SECONDS, LINE_SECONDS

    def _text(self) -> str:
        waited = time.monotonic() - self._started
        return f"{self._detail() or self._doing} …{f' {duration(waited)}' if waited >= 1 else ''}"
