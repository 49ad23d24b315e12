"""The base that was asked last, kept for the next start of a server.

Where it cannot be written, the next server begins without.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tunesmith.data_paths import Paths
from tunesmith.models.directory import is_present, materialise
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings
from tunesmith.system.atomic_write import make_directories, write_atomically
from tunesmith.system.checked_json import read_checked


@dataclass(frozen=True, slots=True)
class AskedBase:
    """A base as the pool opens it.

    `name` is empty for tuned weights, which are a base of their own.
    """

    directory: str
    name: str = ""


class LastBase:
    """Keeps the base that was asked last; writes only where it is another one."""

    def __init__(self, paths: Paths) -> None:
        self._path = _path(paths)
        self._kept: AskedBase | None = None

    def keep(self, directory: Path, name: str) -> None:
        """Keeps a base that a request has opened."""
        asked = AskedBase(str(directory), name)
        if asked == self._kept:
            return
        self._kept = asked
        with suppress(OSError):
            make_directories(self._path.parent)
            write_atomically(self._path, json.dumps(asdict(asked)).encode(), durable=False)


def read_last(settings: Settings) -> AskedBase | None:
    """The base that was asked last, where it is now.

    None if there was none, or it is gone. Raises InvalidRequest or ServerFault if it cannot be used.
    """
    kept = read_checked(_path(settings.paths))
    if not isinstance(kept, dict):
        return None
    asked = AskedBase(str(kept.get("directory", "")), str(kept.get("name", "")))
    if not asked.name:
        return asked if asked.directory and (Path(asked.directory) / "config.json").is_file() else None
    base = resolve_base(asked.name, settings)
    if asked.name in settings.serve_remote or is_present(base, settings):
        return AskedBase(str(materialise(base, settings)), base.name)
    return None


def _path(paths: Paths) -> Path:
    return paths.serve / "last-base.json"
