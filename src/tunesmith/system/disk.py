"""Whether a disk is full, as errors tell it, and how much room it has."""

import errno
import os
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_WORDS = tuple(os.strerror(number) for number in FULL)
CURES = {
    **dict.fromkeys(FULL, "The disk is full: free some space there, or choose another directory"),
    errno.EROFS: "The disk can only be read: mount it for writing, or choose another directory",
    errno.EACCES: "This user may not write there: change its owner or its mode, or choose another directory",
    errno.EPERM: "This user may not write there: change its owner or its mode, or choose another directory",
}


def failure(error: OSError) -> str:
    """The error in words, with the file.

    Where a disk or a directory cannot be written, the cure follows.
    """
    words = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    cure = None if error.errno is None else CURES.get(error.errno)
    return f"{words}. {cure}." if cure else words


def require_writable(directory: Path) -> None:
    """Raises OSError where this user cannot write the directory."""
    if not os.access(directory, os.W_OK):
        read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number), str(directory))


def is_full(error: BaseException | None) -> bool:
    """True if the error, or what caused it, is a disk without room.

    Libraries written in Rust tell it by words alone.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if type(error).__name__ == "SafetensorError" and tells_full(str(error)):
            return True
        error = error.__cause__
    return False


def tells_full(text: str) -> bool:
    """True if the words are those of a full disk, as another process wrote them."""
    return any(words in text for words in FULL_WORDS)


def free_bytes(path: Path) -> int:
    """How many bytes this user may still write on the disk of `path`."""
    return shutil.disk_usage(_existing(path)).free


def disk_bytes(path: Path) -> int:
    """How many bytes the disk of `path` has, written or free."""
    return shutil.disk_usage(_existing(path)).total


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
