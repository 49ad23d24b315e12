"""Digests kept beside a finished directory tell later whether its files are whole.

Looking is cheap: names, sizes and times. Where these differ, and once after each start of the machine (which may have
lost its power), the bytes are read.

Not covered: bytes that change while the machine runs, without a trace in the file's times.
"""

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pydantic import TypeAdapter, ValidationError

from tunesmith.system.atomic_write import sha256_of
from tunesmith.system.checked_json import read_checked, write_checked

SUFFIX = ".sealed.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # changes with each start of a Linux machine
Looks: TypeAlias = tuple[tuple[str, int, int], ...]  # name, size and time of each file

_whole: dict[Path, Looks] = {}  # as this process found them last
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Seal:
    sha256: dict[str, str]
    looks: Looks
    boot: str


_SEAL = TypeAdapter(_Seal)


def seal(directory: Path, digests: dict[str, str] | None = None) -> None:
    """Keeps the digests of the directory's files, durably."""
    made = _Seal(digests or _digests(directory), _looks(directory), _boot())
    write_checked(seal_file(directory), _SEAL.dump_python(made, mode="json"))


def is_whole(directory: Path) -> bool:
    """Whether all files are as they were sealed; False without a seal."""
    looks = _looks(directory)
    with _lock:
        if looks and _whole.get(directory) == looks:
            return True
        whole = _matches(directory, looks)
        if whole:
            _whole[directory] = looks
        return whole


def seal_file(directory: Path) -> Path:
    """Where the digests are."""
    return directory.with_name(directory.name + SUFFIX)


def _matches(directory: Path, looks: Looks) -> bool:
    kept = read_checked(seal_file(directory))
    try:
        made = _SEAL.validate_python(kept)
    except ValidationError:
        return False
    if (made.looks, made.boot) == (looks, _boot()):
        return True
    if _digests(directory) != made.sha256:
        return False
    with suppress(OSError):  # a cache that is only read, or another process that does the same
        seal(directory, made.sha256)
    return True


def _digests(directory: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(directory.iterdir()) if path.is_file()}


def _looks(directory: Path) -> Looks:
    if not directory.is_dir():
        return ()
    stats = ((path.name, path.stat()) for path in sorted(directory.iterdir()) if path.is_file())
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _boot() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.is_file() else ""
