"""What `tunesmith models pull` shows while it waits for a network or a conversion."""

import time
from pathlib import Path

from tunesmith.cli.output.terminal import duration, size
from tunesmith.cli.output.waiting import Waiting

FIRST_SECONDS = 0.4  # what takes less is not worth a line
SECONDS = 2.0  # between two lines where stderr is no terminal


class PullProgress(Waiting):
    """Tells on stderr how far it is, from what is on the disk.

    pip and the hub's client tell nothing, or only a terminal. Pass `started` to `models.directory.pull`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._folder: Path | None = None
        self._total: int | None = None
        self._step = "Fetching"
        super().__init__(f"Fetching {name}")

    def started(self, folder: Path | None, total: int | None, step: str = "Fetching") -> None:
        """A step begins that fills `folder`, to `total` bytes if that is known."""
        self._step, self._folder, self._total = step, folder, total

    def _pace(self) -> tuple[float, float, float]:
        return FIRST_SECONDS, FIRST_SECONDS, SECONDS

    def _text(self) -> str:
        passed = time.monotonic() - self._started
        done = [] if self._folder is None else [self._bytes(_bytes_below(self._folder))]
        return ", ".join([f"{self._step} {self._name}", *done, *([duration(passed)] if passed >= 1 else [])]) + " …"

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
