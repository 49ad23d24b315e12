"""Files that appear whole or not at all, and can be made to survive a power cut."""

import fcntl
import os
import threading
from hashlib import file_digest
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, durable: bool = True, private: bool = False) -> None:
    """Replaces `path`, which at any moment is as it was before or holds all of `data`.

    When a durable write returns, the new content survives a power cut; one process at a time may write such a file.
    Without `durable`, which suits caches, nothing waits for the disk and several processes may write at once.
    `private`: only the owner may read the file.
    """
    # A durable file's temporary name is fixed, so that the next attempt overwrites what a crash left behind.
    writer = "" if durable else f".{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f".{path.name}{writer}.partial")
    try:
        with os.fdopen(_create(partial, 0o600 if private else 0o666), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tells `remove_abandoned` that a living process is writing
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def remove_abandoned(*directories: Path) -> int:
    """Removes the temporary files that killed processes left there; counts them."""
    return sum(_remove_abandoned(path) for directory in directories for path in directory.glob(".*.partial"))


def _remove_abandoned(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:  # somebody writes it, has just finished, or it is a directory or another user's
        return False
    return True


def make_directories(path: Path, mode: int = 0o777) -> None:
    """Makes a directory and its missing parents, whose names survive a power cut.

    `mode` is that of the last one.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    for made in reversed(missing):
        sync(made.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Renames a finished file or directory of files durably: bytes first, then name."""
    if source.is_dir():
        for path in source.iterdir():
            sync(path)
    sync(source)
    source.rename(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Makes what was written to `path`, or renamed in it, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes, in hex digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _create(path: Path, mode: int) -> int:
    """A new file of this mode: one that a crash left behind may be readable to others."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
