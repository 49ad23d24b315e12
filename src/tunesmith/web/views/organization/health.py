"""The state of the server's machine, and what was changed of late."""

import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.directory import check_usable, is_present
from tunesmith.models.registry import default_base, list_bases
from tunesmith.settings import Settings
from tunesmith.store.schema.db import database_url
from tunesmith.system.audit import FILE
from tunesmith.system.memory import free_memory, total_memory

PACKAGES = ("torch", "transformers", "numba", "sqlalchemy", "fastapi")
MOST_LINES = 12
TAIL = 64 * 1024  # bytes of the audit log that are looked at


@dataclass(frozen=True, slots=True)
class Room:
    """How much there is, and how much of it is free; bytes."""

    total: int
    free: int

    @property
    def used_percent(self) -> int:
        """What is taken, in 100."""
        return round(100 * (1 - self.free / self.total)) if self.total else 0

    @property
    def scarce(self) -> bool:
        """Whether less than a twentieth is left."""
        return self.free * 20 < self.total


@dataclass(frozen=True, slots=True)
class Base:
    """A base model.

    `state`: ready, absent (not downloaded yet) or unusable; `why`: the sentence for the last.
    """

    name: str
    default: bool
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What is looked up on this machine; only owners are shown where things are."""

    disk: Room
    memory: Room
    versions: tuple[tuple[str, str], ...]
    database: str
    database_bytes: int | None
    bases: tuple[Base, ...]


def look(settings: Settings) -> Machine:
    """The state of the machine now. Reads a few files."""
    disk = shutil.disk_usage(settings.paths.root)
    file = settings.paths.database
    sqlite = database_url(settings).startswith("sqlite")
    return Machine(
        disk=Room(disk.total, disk.free),
        memory=Room(total_memory(), free_memory()),
        versions=_versions(),
        database="SQLite" if sqlite else "PostgreSQL",
        database_bytes=file.stat().st_size if sqlite and file.is_file() else None,
        bases=_bases(settings),
    )


def recent_changes(data_dir: Path) -> list[JsonObject]:
    """The newest lines of the audit log, newest first; none where it cannot be read."""
    try:
        with (data_dir / FILE).open("rb") as file:
            start = max(0, file.seek(0, 2) - TAIL)
            file.seek(start)
            lines = file.read(TAIL).splitlines()
    except OSError:
        return []
    return _readable(lines[1:] if start else lines)


def _readable(lines: Sequence[bytes]) -> list[JsonObject]:
    found: list[JsonObject] = []
    for line in reversed(lines):
        try:
            value = json.loads(line)
        except ValueError:  # half a line, after a full disk
            continue
        if isinstance(value, dict) and len(found) < MOST_LINES:
            found.append(value)
    return found


def _versions() -> tuple[tuple[str, str], ...]:
    found = [("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def _bases(settings: Settings) -> tuple[Base, ...]:
    try:
        chosen = default_base(settings).name
    except TunesmithError:
        chosen = ""
    found = []
    for base in list_bases(settings):
        state, why = "ready", ""
        try:
            check_usable(base, settings)
            state = "ready" if is_present(base, settings) else "absent"
        except (TunesmithError, OSError) as error:
            state, why = "unusable", error.message if isinstance(error, TunesmithError) else str(error.strerror)
        found.append(Base(base.name, base.name == chosen, state, why))
    return tuple(found)
