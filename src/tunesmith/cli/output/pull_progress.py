"""What `tunesmith models pull` shows while it waits for a network or a conversion."""

import time
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from tunesmith.cli.output.terminal import duration, err, note, size

FIRST_SECONDS = 0.4  # what takes less is not worth a line
SECONDS = 2.0  # between two lines where stderr is no terminal
REFRESH_SECONDS = 0.5  # on a terminal, whose one line is drawn again


class PullProgress:
    """Tells on stderr how far it is, from what is on the disk.

    pip and the hub's client tell nothing, or only a terminal. Pass `started` to `models.directory.pull`.
    """

    def __init__(self, name: str) -> None:
        self._name, self._began = name, time.monotonic()
        self._folder: Path | None = None
        self._total: int | None = None
        self._ended = Event()
        self._status = err().status(self._text())
        self._thread = Thread(target=self._watch, name="pull-progress", daemon=True)

    def started(self, folder: Path, total: int | None) -> None:
        """A step begins that fills `folder`, to `total` bytes if that is known."""
        self._folder, self._total = folder, total

    def __enter__(self) -> Self:
        if err().is_terminal:
            self._status.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._status.stop()

    def _watch(self) -> None:
        pause = FIRST_SECONDS
        while not self._ended.wait(pause):
            pause = REFRESH_SECONDS if err().is_terminal else SECONDS
            if err().is_terminal:
                self._status.update(self._text())
            else:
                note(self._text())

    def _text(self) -> str:
        passed = time.monotonic() - self._began
        done = [] if self._folder is None else [self._bytes(_bytes_below(self._folder))]
        return ", ".join([f"Fetching {self._name}", *done, *([duration(passed)] if passed >= 1 else [])]) + " …"

    def _bytes(self, there: int) -> str:
        return size(there) if self._total is None else f"{size(min(there, self._total))} of {size(self._total)}"


def _bytes_below(folder: Path) -> int:
    """Files may vanish while we look."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += 0 if path.is_dir() else path.stat().st_size
        except OSError:
            continue
    return total
