"""A progress bar for reading a large file."""

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from tunesmith.cli.output.terminal import err

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
