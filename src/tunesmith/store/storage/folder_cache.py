"""Folders of models on this machine that come from object storage.

A fetched one has `digests.json`; these are a cache. It comes under a name of its own and is then renamed, so that a
folder is there whole or not at all, whatever other threads and processes of the machine do.

Not covered: two processes that fetch the same folder at once where a crash has left an incomplete one.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tunesmith.store.storage.bucket import RECENT_SECONDS, Bucket
from tunesmith.system.atomic_write import rename_durably

MANIFEST, DIGESTS = "manifest.json", "digests.json"
FETCHING = ".fetching"  # ends the name of a folder that is not complete yet
ABANDONED_SECONDS = 3600.0  # since a byte came: then nobody fetches it any more
PLACES = ("*/output", "*/output/checkpoints")  # of a job's models, below `jobs`


class FolderCache:
    """The fetched folders below the data directory `root`.

    `limit`: the bytes of those that are not in use.
    """

    def __init__(self, root: Path, bucket: Bucket, limit: int) -> None:
        self._root = root
        self._bucket = bucket
        self._limit = limit
        self._scanning = threading.Lock()

    def make_room(self, coming: int) -> None:
        """Remove folders until `coming` more bytes are within the limit.

        Those that were not used for longest go first, and what broken fetches have left. Raises StorageUnavailable.
        """
        with self._scanning:
            remove_abandoned(path for place in PLACES for path in (self._root / "jobs").glob(f"{place}/.*{FETCHING}"))
            folders = sorted(self._fetched(), key=_used)
            excess = coming + sum(map(_size, folders)) - self._limit
            for folder in folders:
                if excess > 0 and time.time() - _used(folder) > RECENT_SECONDS:
                    excess -= self._evict(folder)

    def _fetched(self) -> list[Path]:
        marks = [mark for place in PLACES for mark in (self._root / "jobs").glob(f"{place}/*/{DIGESTS}")]
        return [mark.parent for mark in marks if not mark.parent.name.endswith(FETCHING)]

    def _evict(self, folder: Path) -> int:
        """Removes a folder that the bucket has; the bytes that this freed."""
        key = folder.relative_to(self._root).as_posix()
        if self._bucket.find(f"{key}/{MANIFEST}") is None:
            return 0
        size, gone = _size(folder), folder.with_name(f".{folder.name}.{os.getpid()}{FETCHING}")
        if time.time() - _used(folder) < RECENT_SECONDS:  # asked for while the bucket was
            return 0
        shutil.rmtree(gone, ignore_errors=True)  # of a crash
        with suppress(FileNotFoundError):  # another process has just removed it
            folder.rename(gone)  # whole or not at all, for others
        shutil.rmtree(gone, ignore_errors=True)
        return size


def is_here(folder: Path) -> bool:
    """Whether a model's folder is complete on this machine; it now counts as used."""
    try:
        os.utime(folder / MANIFEST, ns=(time.time_ns(), (folder / MANIFEST).stat().st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


def partial_of(folder: Path) -> Path:
    """Where a folder is put together by this thread."""
    return folder.with_name(f".{folder.name}.{os.getpid()}-{threading.get_ident()}{FETCHING}")


def name_folder(partial: Path, folder: Path, last: str) -> None:
    """Give a fetched folder its name, unless another process was faster.

    `last` is the file with which it is complete.
    """
    try:
        rename_durably(partial, folder)
    except OSError:
        if (folder / last).is_file():
            return
        shutil.rmtree(folder, ignore_errors=True)  # what a crash left
        rename_durably(partial, folder)


def remove_abandoned(folders: Iterator[Path]) -> None:
    """Remove those of these incomplete folders that nobody fetches any more."""
    for folder in list(folders):
        if is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_abandoned(folder: Path) -> bool:
    """Whether nothing came into an incomplete folder for long."""
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):
            newest = max(newest, path.stat().st_mtime)
    return time.time() - newest > ABANDONED_SECONDS


def _used(folder: Path) -> float:
    try:
        return (folder / MANIFEST).stat().st_atime
    except FileNotFoundError:
        return time.time()  # another process has just removed it


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
