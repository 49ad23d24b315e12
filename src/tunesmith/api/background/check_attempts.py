"""How often the check of each file was begun and never ended.

Kept in a small file for each. Not synced to disk: a power cut may forget an attempt, a process that dies may not.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class CheckAttempts:
    """The attempts in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def attempt(self, file_id: str) -> Iterator[int]:
        """Notes an attempt as long as it lasts; yields how many earlier ones were cut off.

        A full disk is no reason not to check.
        """
        path = self._directory / file_id
        try:
            yield self._begin(path)
        finally:  # however it ended, this process is there to say so
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _begin(self, path: Path) -> int:
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                earlier = file.tell()
                file.write(b".")
            return earlier
        return 0
