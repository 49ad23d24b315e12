"""Reading what a trainer writes, while it runs and after its end."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.jsonvalue import JsonObject

LOG_TAIL_BYTES = 2000


@dataclass(slots=True)
class LineReader:
    """Reads complete JSON lines from a growing file.

    An incomplete line waits for its end.
    """

    path: Path
    offset: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def read(self) -> Iterator[JsonObject]:
        """The objects completed since the last call; other lines are skipped."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        self.offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):  # the latter for lists a thousand deep
                continue
            if isinstance(value, dict):
                yield value


def log_tail(path: Path) -> str:
    """The end of a trainer's stderr, for an error message; "" when it wrote nothing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""
