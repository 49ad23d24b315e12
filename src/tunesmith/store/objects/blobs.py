"""Bytes on disk under an id.

A file under its id is complete and synced; anything else is removed at the next start. A user's file name never
becomes a path: only ids of our own shape do.
"""

import fcntl
import os
import time
from collections.abc import Collection, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.store.ids import FILE_ID, new_file_id
from tunesmith.store.rows import Blob
from tunesmith.system.atomic_write import make_directories, sync

PARTIAL = ".partial"
UNCLAIMED = ".unclaimed"
UNCLAIMED_SECONDS = 3600  # a blob may wait this long for its row: the check runs in between


class BlobStore:
    """The directory of all files' bytes.

    `<id>` holds the bytes, `.partial/<id>` bytes that are still arriving, and `.partial/<id>.unclaimed` marks a blob
    that no row refers to yet. Only marked blobs are ever swept, so a data directory that is opened with the wrong
    database loses nothing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._partial = directory / PARTIAL
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
            self._mark(file_id).touch()
            sync(self._partial)
            partial.rename(self._directory / file_id)
        except BaseException:
            partial.unlink(missing_ok=True)
            self._mark(file_id).unlink(missing_ok=True)
            raise
        sync(self._directory)
        return Blob(file_id, size, digest)

    def claim(self, blob: Blob) -> None:
        """Keep the blob: a row refers to it now, and sweeps leave it alone."""
        self._mark(blob.id).unlink(missing_ok=True)

    def path(self, file_id: str) -> Path:
        """The path of the bytes. Raises NotFound for anything that is not a file id."""
        if not FILE_ID.fullmatch(file_id):
            raise NotFound(f"No such File object: {file_id}", param="id")
        return self._directory / file_id

    def delete(self, file_id: str) -> None:
        """Remove the bytes; no error when they are gone already."""
        self.path(file_id).unlink(missing_ok=True)
        self._mark(file_id).unlink(missing_ok=True)

    def sweep(self, live: Collection[str], deleted: Collection[str]) -> int:
        """Remove what crashes left and return how many files that was.

        These are half-written files, bodies of deleted rows, and old blobs that no row claimed.
        """
        removed = 0
        for path in list(self._partial.iterdir()):
            file_id = path.name.removesuffix(UNCLAIMED)
            if file_id == path.name:
                removed += _unlink_abandoned(path)
            elif file_id in live:
                path.unlink(missing_ok=True)
            elif _age(path) > UNCLAIMED_SECONDS:
                self.delete(file_id)
                removed += 1
        for file_id in deleted:
            if self.path(file_id).exists():
                self.delete(file_id)
                removed += 1
        return removed

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


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
