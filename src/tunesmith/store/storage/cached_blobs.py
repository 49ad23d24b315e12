"""Files' bytes in object storage, with copies on this machine.

In the bucket `files/<id>` holds a file's bytes and `unclaimed/<id>` marks one that no row may refer to: it is put
before the bytes and removed once the row is committed. Sweeps remove marked objects and those of deleted rows, never
others, so a bucket that is opened with the wrong database loses nothing.

The directory of the blobs is a cache. A copy leaves it, least recently used first, only when the bucket has its bytes
and nobody uses it: no job has a link to it, no process holds it, and it was not asked for in the last minutes.
"""

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from tunesmith.errors import InvalidRequest
from tunesmith.store.ids import FILE_ID
from tunesmith.store.objects.blobs import BlobStore, Leftovers, stream_to
from tunesmith.store.queue.job_files import KEPT
from tunesmith.store.rows import Blob
from tunesmith.store.storage.bucket import GIB, RECENT_SECONDS, Bucket, StorageDamaged, StorageUnavailable, StoredObject
from tunesmith.system.atomic_write import make_directories

log = structlog.get_logger(__name__)

FILES, MARKS, INSTALLED = "files", "unclaimed", "tunesmith.json"
ABANDONED_SECONDS = 86_400  # a mark this old is of a process that died
LIST_SECONDS = 86_400.0  # between two listings of the whole bucket
SCANS = 50  # the cache is looked through again once a 50th of its limit has been added


class CachedBlobStore(BlobStore):
    """All files' bytes, in a bucket and as far as there is room in the directory.

    `gib` bounds the copies in the directory; what is in use stays beyond it.
    """

    is_cache = True

    def __init__(self, directory: Path, bucket: Bucket, gib: float) -> None:
        super().__init__(directory)
        self._bucket = bucket
        self._limit = int(gib * GIB)
        self._added = self._limit  # since the cache was looked through
        self._scanning = threading.Lock()
        self._fetches: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
        self._listed: float | None = None  # when the whole bucket was, by the monotonic clock

    def write(self, chunks: Iterable[bytes], *, max_bytes: int | None = None, file_id: str | None = None) -> Blob:
        """As of the base class; the bytes are in the bucket before this returns.

        Raises StorageUnavailable.
        """
        blob = super().write(chunks, max_bytes=max_bytes, file_id=file_id)
        self._make_room(added=blob.bytes)
        return blob

    def claim(self, blob: Blob) -> None:
        """Keep the blob: a row refers to it now, and sweeps leave it alone."""
        super().claim(blob)
        self._remove(mark_key(blob.id))

    def delete(self, file_id: str) -> None:
        """Remove the bytes here and there.

        What the bucket does not do now, a sweep does later.
        """
        super().delete(file_id)
        self._remove(file_key(file_id), mark_key(file_id))

    def cached(self, file_id: str) -> Path | None:
        """Return the path of the copy here; None if there is none.

        It now counts as used.
        """
        path = self.path(file_id)
        with suppress(FileNotFoundError):
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            return path
        return None

    def fetch(self, blob: Blob) -> Path:
        """Return the path of a copy, fetched if there is none.

        Raises FileNotFoundError where the bucket has no such object, StorageDamaged where its bytes are not the blob's,
        and StorageUnavailable.
        """
        with self._turn(blob.id):
            return self.cached(blob.id) or self._fetched(blob)

    def read(self, blob: Blob, start: int, end: int) -> Iterator[bytes]:
        """Yield a part of the bytes, from the bucket.

        Raises FileNotFoundError and StorageUnavailable.
        """
        return self._bucket.read(file_key(blob.id), start, end)

    def keep(self, file_id: str, folder: Path, copy: Callable[[str], Path]) -> Path:
        """Link the copy into a job's folder, where the cache does not remove it."""
        target = folder / f"{KEPT}{file_id}"
        if not target.exists():
            make_directories(folder)
            _link(copy(file_id), target)
        return target

    def hold(self, path: Path) -> AbstractContextManager[Path]:
        """Keep a copy in the cache until the block ends, for processes that open it later."""
        return _held(path)

    def require(self, *, has_files: bool) -> None:
        """Raise InvalidRequest if an installation has files and the bucket has nothing.

        A new one signs the bucket.
        """
        if self._bucket.find(INSTALLED) is not None:
            return
        next(self._bucket.list(FILES), None)  # a bucket that is not there says so here
        if has_files:
            raise InvalidRequest(
                f"{self._bucket.url} has nothing of this installation, whose database names files. If the setting"
                " storage is wrong, correct it; else copy the files there first: tunesmith storage move"
                f" local {self._bucket.url}"
            )
        sign(self._bucket)

    def leftovers(self) -> Leftovers:
        """Return what a sweep has to compare with the rows.

        Once a day that includes the whole bucket.
        """
        here = frozenset(path.name for path in self._copies())
        if self._listed is not None and time.monotonic() - self._listed < LIST_SECONDS:
            return Leftovers(here)
        try:
            abandoned = frozenset(_ids(one.key for one in self._bucket.list(MARKS) if _is_abandoned(one)))
            there = frozenset(_ids(one.key for one in self._bucket.list(FILES)))
        except StorageUnavailable as error:
            log.warning("the bucket is looked through another time", error=str(error))
            return Leftovers(here)
        self._listed = time.monotonic()
        return Leftovers(here, there, abandoned)

    def remove(self, left: Leftovers, live: Collection[str], deleted: Collection[str]) -> int:
        """Remove what is left of deleted rows; return of how many.

        And of abandoned blobs that are not `live`.
        """
        gone = (left.here | left.there).intersection(deleted) | left.abandoned.difference(live)
        for file_id in sorted(gone):
            self.delete(file_id)
        for file_id in sorted(left.abandoned.intersection(live)):
            self._remove(mark_key(file_id))
        return len(gone)

    def _publish(self, file_id: str, partial: Path) -> None:
        self._bucket.put_bytes(mark_key(file_id), b"\n")
        self._bucket.put(file_key(file_id), partial)

    def _remove(self, *keys: str) -> None:
        try:
            self._bucket.delete(keys)
        except StorageUnavailable as error:
            log.warning("objects wait for the next sweep", keys=keys, error=str(error))

    @contextmanager
    def _turn(self, file_id: str) -> Iterator[None]:
        """One fetch of a file at a time."""
        with self._scanning:
            turn = self._fetches.setdefault(file_id, _Turn(threading.Lock()))
        with turn.lock:
            yield

    def _fetched(self, blob: Blob) -> Path:
        self._make_room(added=blob.bytes, coming=blob.bytes)
        path = self.path(blob.id)
        partial = self._partial / f"{blob.id}.{os.getpid()}-{threading.get_ident()}"
        partial.unlink(missing_ok=True)
        try:
            size, digest = stream_to(partial, self._bucket.read_whole(file_key(blob.id), blob.bytes))
            if (size, digest) != (blob.bytes, blob.sha256):
                raise StorageDamaged(
                    f"The bytes of {blob.id} in the object storage are not those that were stored: their SHA-256 is"
                    f" {digest}, not {blob.sha256}. Restore the object from a backup or an older version, or delete the"
                    " file and upload it again."
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _copies(self) -> list[Path]:
        return [path for path in self._directory.iterdir() if FILE_ID.fullmatch(path.name)]

    def _make_room(self, *, added: int, coming: int = 0) -> None:
        """Removes the copies that were not used for longest, until `coming` more bytes are within the limit."""
        with self._scanning:
            self._added += added
            if self._added * SCANS < self._limit:
                return
            self._added = 0
            copies = sorted((found for path in self._copies() if (found := _copy(path))), key=lambda one: one.used)
            excess = sum(one.bytes for one in copies) + coming - self._limit
            try:
                for one in copies:
                    if excess > 0 and self._evict(one):
                        excess -= one.bytes
            except StorageUnavailable as error:
                log.warning("the cache of files keeps more than its limit", error=str(error))

    def _evict(self, copy: "_Copy") -> bool:
        if copy.links > 1 or time.time() - copy.used < RECENT_SECONDS or self._mark(copy.path.name).exists():
            return False
        with suppress(FileNotFoundError, BlockingIOError), copy.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = self._bucket.find(file_key(copy.path.name))
            now = _copy(copy.path)  # somebody may have asked for it, or linked it, since the cache was looked through
            if there is not None and there.bytes == copy.bytes and now == copy:
                copy.path.unlink()
                return True
        return False


@dataclass(slots=True, weakref_slot=True)
class _Turn:
    lock: threading.Lock


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file in the cache."""

    path: Path
    bytes: int
    used: float  # Unix seconds
    links: int


def _copy(path: Path) -> _Copy | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Copy(path, found.st_size, found.st_atime, found.st_nlink)


@contextmanager
def _held(path: Path) -> Iterator[Path]:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield path


def _is_abandoned(mark: StoredObject) -> bool:
    return (datetime.now(UTC) - mark.modified).total_seconds() > ABANDONED_SECONDS


def _link(source: Path, target: Path) -> None:
    with suppress(FileExistsError):
        try:
            target.hardlink_to(source)
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one without links
            partial = target.with_name(f".{target.name}.partial")
            shutil.copyfile(source, partial)
            partial.rename(target)


def _ids(keys: Iterable[str]) -> Iterator[str]:
    """The file ids among the last names of `keys`; objects that are not ours are left alone."""
    names = (key.rpartition("/")[2] for key in keys)
    return (name for name in names if FILE_ID.fullmatch(name))


def sign(bucket: Bucket) -> None:
    """Note in a bucket that it has the files of an installation."""
    bucket.put_bytes(INSTALLED, b'{"layout": 1}\n')


def file_key(file_id: str) -> str:
    """The key of a file's bytes."""
    return f"{FILES}/{file_id}"


def mark_key(file_id: str) -> str:
    """The key of the mark of a file that no row may refer to."""
    return f"{MARKS}/{file_id}"
