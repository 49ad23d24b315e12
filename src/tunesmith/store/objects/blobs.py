"""Bytes on disk under an id.

A file under its id is complete and synced; anything else is removed at the next start. A user's file name never
becomes a path: only ids of our own shape do.
"""

import fcntl
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.store.ids import FILE_ID, new_file_id
from tunesmith.store.rows import Blob
from tunesmith.system.atomic_write import make_directories, sync

PARTIAL = ".partial"
UNCLAIMED = ".unclaimed"
READ_BYTES = 3 * 64 * 1024  # of a stream: a multiple of 3, so that only its last chunk is padded in base64


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Ids of files, to be compared with the rows.

    Those with bytes here, with bytes in object storage, and abandoned ones there.
    """

    here: frozenset[str] = frozenset()
    there: frozenset[str] = frozenset()
    abandoned: frozenset[str] = frozenset()


class BlobStore:
    """The directory of all files' bytes.

    `<id>` holds the bytes, `.partial/<id>` bytes that are still arriving, and `.partial/<id>.unclaimed` marks a blob
    that no row refers to yet; the process that is to claim the blob holds a lock on the mark. Only marked blobs are
    ever swept, so a data directory that is opened with the wrong database loses nothing.
    """

    is_cache = False  # whether the bytes are kept elsewhere, and here as far as there is room

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._partial = directory / PARTIAL
        self._held: dict[str, int] = {}  # the marks of blobs that this process is to claim
        make_directories(self._partial)

    def write(self, chunks: Iterable[bytes], *, max_bytes: int | None = None, file_id: str | None = None) -> Blob:
        """Stream bytes to disk under a file id, a new one unless `file_id` is given.

        Temporary name, hash, fsync, rename, fsync again. Raises InvalidRequest beyond `max_bytes`; nothing stays on
        disk then, nor when `chunks` raises.
        """
        file_id = self.path(file_id).name if file_id else new_file_id()
        partial = self._partial / file_id
        try:
            limit = chunks if max_bytes is None else limited(chunks, max_bytes, _file_too_large(max_bytes))
            size, digest = stream_to(partial, limit)
            self._hold(file_id)
            sync(self._partial)
            self._publish(file_id, partial)
            partial.rename(self._directory / file_id)
        except BaseException:
            partial.unlink(missing_ok=True)
            self._unmark(file_id)
            raise
        sync(self._directory)
        return Blob(file_id, size, digest)

    def claim(self, blob: Blob) -> None:
        """Keep the blob: a row refers to it now, and sweeps leave it alone."""
        self._unmark(blob.id)

    def close(self) -> None:
        """Leave the blobs that this process has not claimed to the next sweep."""
        while self._held:
            os.close(self._held.popitem()[1])

    def path(self, file_id: str) -> Path:
        """The path of the bytes. Raises NotFound for anything that is not a file id."""
        if not FILE_ID.fullmatch(file_id):
            raise NotFound(f"No such File object: {file_id}", param="id")
        return self._directory / file_id

    def cached(self, file_id: str) -> Path | None:
        """Return the path of bytes on this machine; None where they are to be fetched."""
        return self.path(file_id)

    def fetch(self, blob: Blob) -> Path:
        """Return the path of bytes on this machine, fetched if they are not here."""
        return self.path(blob.id)

    def read(self, blob: Blob, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `end`, wherever they are.

        Raises FileNotFoundError.
        """
        with self.path(blob.id).open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(READ_BYTES, end - start))):
                start += len(chunk)
                yield chunk

    def keep(self, file_id: str, folder: Path, copy: Callable[[str], Path]) -> Path:
        """Return a path that stays while a job has this folder.

        `copy` gives a path of the bytes here.
        """
        return copy(file_id)

    def hold(self, path: Path) -> AbstractContextManager[Path]:
        """Keep a path that `fetch` gave until the block ends."""
        return nullcontext(path)

    def leftovers(self) -> Leftovers:
        """Return what is to be compared with the rows from time to time; here nothing."""
        return Leftovers()

    def remove(self, left: Leftovers, live: Collection[str], deleted: Collection[str]) -> int:
        """Remove what is left over, and return of how many files."""
        return 0

    def delete(self, file_id: str) -> None:
        """Remove the bytes; no error when they are gone already."""
        self.path(file_id).unlink(missing_ok=True)
        self._unmark(file_id)

    def sweep_partial(self) -> list[str]:
        """Remove half-written files; return the blobs that nobody will claim.

        These are marked, and no process holds the mark. Whether a row has claimed them is to be asked after
        this: their process may have died right after its commit.
        """
        abandoned = []
        for path in list(self._partial.iterdir()):
            if path.name.endswith(UNCLAIMED):
                if _is_abandoned(path):
                    abandoned.append(path.name.removesuffix(UNCLAIMED))
            else:
                _unlink_abandoned(path)
        return abandoned

    def sweep(self, abandoned: Collection[str], live: Collection[str], deleted: Collection[str]) -> int:
        """Remove what crashes left and return how many files that was.

        These are bodies of deleted rows, and `abandoned` blobs that are not `live`.
        """
        gone = {file_id for file_id in deleted if self.path(file_id).exists()} | set(abandoned).difference(live)
        for file_id in gone:
            self.delete(file_id)
        for file_id in set(abandoned).intersection(live):
            self._unmark(file_id)
        return len(gone)

    def _publish(self, file_id: str, partial: Path) -> None:
        """What has to be done with complete bytes before they have their name."""

    def _hold(self, file_id: str) -> None:
        """Marks the blob as one that this process is to claim; an import may write one again under its id."""
        if file_id in self._held:  # a second lock would wait for our own first one
            return
        mark = os.open(self._mark(file_id), os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel drops it when we die
        except BlockingIOError:  # another process writes the same blob and holds its mark
            os.close(mark)
        else:
            self._held[file_id] = mark

    def _unmark(self, file_id: str) -> None:
        """Unlinks the mark first: a sweep that then gets the lock finds it gone."""
        self._mark(file_id).unlink(missing_ok=True)
        held = self._held.pop(file_id, None)
        if held is not None:
            os.close(held)

    def _mark(self, file_id: str) -> Path:
        return self._partial / f"{file_id}{UNCLAIMED}"


def stream_to(path: Path, chunks: Iterable[bytes]) -> tuple[int, str]:
    """Write and sync a new file; return its size and SHA-256.

    The directory entry is not synced yet.
    """
    digest, size = sha256(), 0
    with path.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # tells that a living process is writing; the kernel drops it when we die
        for chunk in chunks:
            size += len(chunk)
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def limited(chunks: Iterable[bytes], max_bytes: int, error: InvalidRequest) -> Iterator[bytes]:
    """Pass chunks on; raise `error` at the first one beyond `max_bytes`."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise error
        yield chunk


def _file_too_large(max_bytes: int) -> InvalidRequest:
    return InvalidRequest(
        f"The file is larger than {max_bytes:,} bytes, the limit here (setting max_file_bytes)."
        " Split it, send it in parts (POST /v1/uploads), or raise the limit.",
        param="file",
    )


def _unlink_abandoned(path: Path) -> bool:
    """Remove a half-written file unless a living writer holds its lock."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _is_abandoned(mark: Path) -> bool:
    try:
        with mark.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return mark.exists()
    except (BlockingIOError, FileNotFoundError):
        return False
