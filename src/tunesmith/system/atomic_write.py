"""What was written stays written when the power goes: fsync for files and for the names in a directory."""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """`path` is either as it was before or holds all of `data`."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Makes what was written to `path`, or renamed in it, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
