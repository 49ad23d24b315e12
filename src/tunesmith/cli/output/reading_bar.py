"""Progress bars: for reading a large file, and over things that are counted."""

import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from tunesmith.cli.output.terminal import err, note

LINE_SECONDS = 10.0
BAR_BYTES = 4_000_000  # smaller files are read before anyone could see a bar


class ReadingBar:
    """A bar on stderr while a file is read.

    Call it with the bytes read and the file's size.
    Nothing is drawn where stderr is no terminal, or for files of at most `BAR_BYTES`.
    """

    def __init__(self, name: str) -> None:
        columns = (TextColumn("reading {task.description}", markup=False), BarColumn(), DownloadColumn())
        # Drawn by the caller's own calls: without a drawing thread, the check may fork its workers.
        quiet = not err().is_terminal
        self._progress = Progress(*columns, console=err(), transient=True, disable=quiet, auto_refresh=False)
        self._task = self._progress.add_task(name, total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        """Shows that `done` of `total` bytes are read."""
        self._progress.update(self._task, completed=done, total=total, visible=total > BAR_BYTES, refresh=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class CountingBar:
    """A bar on stderr over a known number of things.

    Where stderr is no terminal it is a line now and then. Call it, from any thread, with the number that is done.
    """

    def __init__(self, total: int, doing: str) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._quiet = not err().is_terminal
        self._progress = Progress(*columns, TimeRemainingColumn(), console=err(), transient=True, disable=self._quiet)
        self._task = self._progress.add_task(doing, total=total)
        self._total = total
        self._next_line = time.monotonic() + LINE_SECONDS

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __call__(self, done: int) -> None:
        """Shows that so many are done."""
        self._progress.update(self._task, completed=done)
        if self._quiet and done < self._total and time.monotonic() > self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            note(f"{done:,} of {self._total:,} done")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
