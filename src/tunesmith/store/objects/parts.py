"""The bytes of uploads' parts: `.uploads/<upload id>/<part id>`, beside the files that will be made of them.

A part under its id is complete and synced. All of an upload's parts go at once, when it has ended; what a crash left of
one lies in the same directory and goes with it.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tunesmith.errors import NotFound
from tunesmith.store.ids import UPLOAD_ID, new_part_id
from tunesmith.store.objects.blobs import stream_to
from tunesmith.system.atomic_write import sync

UPLOADS = ".uploads"
CHUNK_BYTES = 1024 * 1024


class PartStore:
    def __init__(self, directory: Path) -> None:
        self._root = directory / UPLOADS
        self._root.mkdir(parents=True, exist_ok=True)

    def open(self, upload_id: str) -> None:
        """Makes room for an upload, before its row: a directory without a row is swept."""
        self._directory(upload_id).mkdir()
        sync(self._root)

    def write(self, upload_id: str, chunks: Iterable[bytes]) -> tuple[str, int]:
        """The new part's id and size. Raises FileNotFoundError when the upload was closed meanwhile."""
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
        """The parts one after another. The ids are those of stored rows."""
        for part_id in part_ids:
            with (self._directory(upload_id) / part_id).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

    def drop(self, upload_id: str, part_id: str) -> None:
        (self._directory(upload_id) / part_id).unlink(missing_ok=True)

    def close(self, upload_id: str) -> None:
        """Removes every part."""
        shutil.rmtree(self._directory(upload_id), ignore_errors=True)

    def ages(self) -> dict[str, float]:
        """Upload id -> seconds since a part last came or went, of all that have a directory."""
        now = time.time()
        return {
            path.name: now - path.stat().st_mtime for path in self._root.iterdir() if UPLOAD_ID.fullmatch(path.name)
        }

    def _directory(self, upload_id: str) -> Path:
        if not UPLOAD_ID.fullmatch(upload_id):
            raise no_such_upload(upload_id)
        return self._root / upload_id


def no_such_upload(upload_id: str) -> NotFound:
    """The answer to an id that is of no upload, or of another project's."""
    return NotFound(f"No such Upload object: {upload_id}", param="upload_id")
