"""How a server tells other commands where it is: a small JSON file."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tunesmith.settings import Settings
from tunesmith.system.atomic_write import write_atomically


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a server can be reached; `server.json` in the data directory."""

    base_url: str
    pid: int

    def write(self, path: Path) -> None:
        """Replaces the file at once, so that no reader sees half of it."""
        write_atomically(path, json.dumps(asdict(self)).encode(), durable=False)  # means nothing after a power cut

    @staticmethod
    def read(path: Path) -> "Announcement | None":
        """The announcement in the file; None when there is none that can be read."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return Announcement(str(value["base_url"]), int(value["pid"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


def announcement_file(settings: Settings) -> Path:
    """The file in which the server of this data directory announces itself."""
    return settings.paths.root / "server.json"


def activity_dir(settings: Settings) -> Path:
    """Where the server's processes tell what slow work they do."""
    return settings.paths.root / "activity"


def withdraw(settings: Settings) -> None:
    """Deletes this process's announcement; another server's stays."""
    announced = Announcement.read(announcement_file(settings))
    if announced is not None and announced.pid == os.getpid():
        announcement_file(settings).unlink(missing_ok=True)
