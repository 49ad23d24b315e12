"""The bytes of uploads' parts in object storage: `uploads/<upload id>/<part id>`.

So any server takes a part and any other completes the upload. A part comes through a file without a name, which ends
with whoever writes it, and is in the bucket before its row is written.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from tunesmith.store.ids import UPLOAD_ID, new_part_id
from tunesmith.store.objects.parts import UPLOADS, PartStore, no_such_upload
from tunesmith.store.storage.bucket import Bucket, StorageUnavailable

log = structlog.get_logger(__name__)

PREFIX = "uploads"


class BucketParts(PartStore):
    """The parts of all uploads that are under way, for every server on the bucket.

    Parts that an earlier version has left in the data directory are removed with their uploads.
    """

    def __init__(self, directory: Path, bucket: Bucket) -> None:
        super().__init__(directory)
        self._scratch = directory / UPLOADS
        self._bucket = bucket

    def open(self, upload_id: str) -> None:
        """Do nothing: a prefix is there with its first object."""

    def write(self, upload_id: str, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Write a new part; return its id and size. Raises StorageUnavailable."""
        part_id, size = new_part_id(), 0
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            for chunk in chunks:
                size += file.write(chunk)
            file.seek(0)
            self._bucket.put_file(self._key(upload_id, part_id), file, size)
        return part_id, size

    def read(self, upload_id: str, part_ids: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of the parts, one after another.

        Raises FileNotFoundError and StorageUnavailable.
        """
        for part_id in part_ids:
            key = self._key(upload_id, part_id)
            found = self._bucket.find(key)
            if found is None:
                raise FileNotFoundError(key)
            yield from self._bucket.read_whole(key, found.bytes)

    def discard(self, upload_id: str, part_id: str) -> None:
        """Remove one part; what the bucket does not do now, a sweep does later."""
        self._remove([self._key(upload_id, part_id)])

    def close(self, upload_id: str) -> None:
        """Remove every part of an upload."""
        super().close(upload_id)
        try:
            self._remove([one.key for one in self._bucket.list(self._key(upload_id))])
        except StorageUnavailable as error:
            log.warning("an upload's parts are removed another time", upload=upload_id, error=str(error))

    def ages(self) -> dict[str, float]:
        """Upload id -> seconds since a part last came; of every upload that has parts."""
        now, found = time.time(), super().ages()
        try:
            objects = [*self._bucket.list(PREFIX)]
        except StorageUnavailable as error:
            log.warning("uploads are looked through another time", error=str(error))
            return found
        for one in objects:
            upload_id, age = one.key.split("/")[1], now - one.modified.timestamp()
            if UPLOAD_ID.fullmatch(upload_id):
                found[upload_id] = min(age, found.get(upload_id, age))
        return found

    def _remove(self, keys: Sequence[str]) -> None:
        try:
            self._bucket.delete(keys)
        except StorageUnavailable as error:
            log.warning("parts of uploads are removed another time", error=str(error))

    def _key(self, upload_id: str, part_id: str = "") -> str:
        if not UPLOAD_ID.fullmatch(upload_id):
            raise no_such_upload(upload_id)
        return f"{PREFIX}/{upload_id}/{part_id}".rstrip("/")
