"""A folder for its owner alone, which appears whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.system.atomic_write import rename_durably, sync
from tunesmith.system.disk import free_bytes
from tunesmith.system.private import tighten

SPARE = 1 << 20  # bytes beyond the files themselves: directories, and what others write meanwhile


@contextmanager
def new_folder(target: Path, needed: int) -> Iterator[Path]:
    """Yields a temporary folder that becomes `target` when the block has ended well.

    `needed`: bytes that will be written. Raises InvalidRequest where `target` exists, or the disk has no room.
    """
    parent = target.absolute().parent
    _check(target, parent, needed)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=parent))  # 0700
    try:
        yield folder
        tighten([folder])
        for path in folder.rglob("*"):
            sync(path)
        if target.exists():
            raise _exists(target)
        rename_durably(folder, target.absolute())
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # gone after the renaming


def _check(target: Path, parent: Path, needed: int) -> None:
    if target.exists():
        raise _exists(target)
    if not parent.is_dir():
        raise InvalidRequest(f"There is no directory {parent}: make it, or name another with --out.")
    free = free_bytes(parent)
    if free < needed + SPARE:
        raise InvalidRequest(
            f"The disk of {parent} has {free:,} bytes free, and the export needs {needed:,}. Free some space there, or"
            " name a folder on another disk with --out."
        )


def _exists(target: Path) -> InvalidRequest:
    return InvalidRequest(f"{target} exists already. Remove it, or name another folder with --out.")
