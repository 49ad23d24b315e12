"""Digests kept beside a finished directory tell later whether its files are whole.

Looking is cheap: names, sizes and times. Where these differ, and once after each start of the machine (which may have
lost its power), the bytes are read.

Not covered: bytes that change while the machine runs, without a trace in the file's times.
"""

import threading
from collections.abc import Container
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


def seal(directory: Path, digests: dict[str, str] | None = None, place: Path | None = None) -> None:
    """Keeps the digests of the directory's files, durably.

    `place`: for a directory of another program's, in which only the files of `digests` are ours.
    """
    found = digests or _digests(directory)
    made = _Seal(found, _looks(directory, None if place is None else found), _boot())
    write_checked(place or seal_file(directory), _SEAL.dump_python(made, mode="json"))


def is_whole(directory: Path, place: Path | None = None) -> bool:
    """Whether all files are as they were sealed; False without a seal."""
    looks = _looks(directory)
    with _lock:
        if looks and _whole.get(directory) == looks:
            return True
        whole = _matches(directory, place)
        if whole:
            _whole[directory] = looks
        return whole


def sealed_digests(directory: Path, place: Path) -> dict[str, str]:
    """The SHA-256 of each of the directory's files.

    They are kept in `place`, if that can be written, and read again where a file looks otherwise than it did.
    """
    looks, boot = _looks(directory), _boot()
    with suppress(ValidationError):
        kept = _SEAL.validate_python(read_checked(place))
        if (kept.looks, kept.boot) == (looks, boot):
            return kept.sha256
    found = _digests(directory)
    with suppress(OSError):
        write_checked(place, _SEAL.dump_python(_Seal(found, looks, boot), mode="json"))
    return found


def seal_file(directory: Path) -> Path:
    """Where the digests are."""
    return directory.with_name(directory.name + SUFFIX)


def _matches(directory: Path, place: Path | None) -> bool:
    kept = read_checked(place or seal_file(directory))
    try:
        made = _SEAL.validate_python(kept)
    except ValidationError:
        return False
    names = None if place is None else made.sha256
    if (made.looks, made.boot) == (_looks(directory, names), _boot()):
        return True
    if _digests(directory, names) != made.sha256:
        return False
    with suppress(OSError):  # a cache that is only read, or another process that does the same
        seal(directory, made.sha256, place)
    return True


def _digests(directory: Path, names: Container[str] | None = None) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in _files(directory, names)}


def _files(directory: Path, names: Container[str] | None) -> list[Path]:
    """The files of these names, or all; those that a link leads to nowhere are none."""
    if not directory.is_dir():
        return []
    return [path for path in sorted(directory.iterdir()) if path.is_file() and (names is None or path.name in names)]


def _looks(directory: Path, names: Container[str] | None = None) -> Looks:
    stats = ((path.name, path.stat()) for path in _files(directory, names))
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _boot() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.is_file() else ""
