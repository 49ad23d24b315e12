"""The bytes of uploads' parts: `.uploads/<upload id>/<part id>`.

A part under its id is complete and synced. All parts of an upload are removed together when it has ended, with
anything a crash left in the same directory.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tunesmith.errors import NotFound
from tunesmith.store.ids import UPLOAD_ID, new_part_id
from tunesmith.store.objects.blobs import stream_to
from tunesmith.system.atomic_write import make_directories, sync

UPLOADS = ".uploads"
CHUNK_BYTES = 1024 * 1024


class PartStore:
    """The directories of all uploads that are under way."""

    def __init__(self, directory: Path) -> None:
        self._root = directory / UPLOADS
        make_directories(self._root)

    def open(self, upload_id: str) -> None:
        """Make an upload's directory, before its row.

        A directory without a row is swept.
        """
        self._directory(upload_id).mkdir()
        sync(self._root)

    def write(self, upload_id: str, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Write a new part; return its id and size.

        Raises FileNotFoundError when the upload was closed meanwhile.
        """
        part_id = new_part_id()
        directory = self._directory(upload_id)
        partial = directory / f"{part_id}.partial"
        try:
            size, _ = stream_to(partial, chunks)
            partial.rename(directory / part_id)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync(directory)
        return part_id, size

    def read(self, upload_id: str, part_ids: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of the parts, one after another. The ids come from rows."""
        for part_id in part_ids:
            with (self._directory(upload_id) / part_id).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

    def discard(self, upload_id: str, part_id: str) -> None:
        """Remove one part; no error when it is gone already."""
        (self._directory(upload_id) / part_id).unlink(missing_ok=True)

    def close(self, upload_id: str) -> None:
        """Remove every part of an upload."""
        shutil.rmtree(self._directory(upload_id), ignore_errors=True)

    def ages(self) -> dict[str, float]:
        """Upload id -> seconds since a part last came or went.

        Covers every upload that has a directory.
        """
        now = time.time()
        return {
            path.name: now - path.stat().st_mtime for path in self._root.iterdir() if UPLOAD_ID.fullmatch(path.name)
        }

    def _directory(self, upload_id: str) -> Path:
        if not UPLOAD_ID.fullmatch(upload_id):
            raise no_such_upload(upload_id)
        return self._root / upload_id


def no_such_upload(upload_id: str) -> NotFound:
    """The answer to an id that no visible upload has."""
    return NotFound(f"No such Upload object: {upload_id}", param="upload_id")
