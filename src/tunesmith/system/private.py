"""Files that only their owner may read.

Data directories hold keys and other people's texts.

Not covered: access lists beyond the mode, and files that belong to another user, which only that user can change.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

OTHERS = 0o077


def make_new_files_private() -> None:
    """Has this process and its children create files as 0600, directories as 0700."""
    os.umask(OTHERS)


def tighten(paths: Iterable[Path]) -> int:
    """Takes group's and others' rights from the paths and all below; counts changes.

    Links are not followed. Where neither a path nor an entry of it has such rights, its depths are not looked at.
    """
    return sum(tighten_one(entry) for path in paths if _is_loose(path) for entry in _tree(path))


def tighten_one(path: Path) -> int:
    """Does the same for the path alone; 1 if that changed anything."""
    if not _rights(path):
        return 0
    path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~OTHERS)
    return 1


def _is_loose(path: Path) -> bool:
    return any(_rights(one) for one in (path, *_entries(path)))


def _rights(path: Path) -> int:
    """What others may do with it; 0 for a link, another user's file, or one that is gone."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return 0 if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid() else found.st_mode & OTHERS


def _tree(path: Path) -> Iterator[Path]:
    """The path, then all below it: a closed directory shows no more of what is in it."""
    yield path
    for entry in _entries(path):
        yield from _tree(entry)


def _entries(path: Path) -> list[Path]:
    if path.is_symlink() or not path.is_dir():
        return []
    try:
        return list(path.iterdir())
    except OSError:
        return []
