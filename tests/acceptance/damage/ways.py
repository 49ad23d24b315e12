"""What a bad disk, a power cut or half a backup does to a file."""

import os
from collections.abc import Callable
from pathlib import Path


def gone(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00" * (path.stat().st_size // 2))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


WAYS: tuple[Callable[[Path], None], ...] = (gone, empty, cut, garbage, flipped)


def keeping_its_time(way: Callable[[Path], None], path: Path) -> None:
    """Damages without a trace in the file's times, as disks do."""
    before = path.stat()
    way(path)
    if path.exists():
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
