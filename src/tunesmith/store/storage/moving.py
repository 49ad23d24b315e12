"""Copying all files and models to a bucket, back, or to another bucket.

Each copy is read again and its SHA-256 compared with the row's. What is there already is not copied again, so a move
that broke off goes on where it was. Nothing is removed where it came from.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tunesmith.data_paths import Paths
from tunesmith.store.objects.blobs import BlobStore
from tunesmith.store.rows import Blob
from tunesmith.store.storage.bucket import Bucket, StorageDamaged
from tunesmith.store.storage.cached_blobs import CachedBlobStore, file_key, sign
from tunesmith.store.storage.folder_cache import DIGESTS, MANIFEST
from tunesmith.store.storage.model_folders import BucketFolders
from tunesmith.system.atomic_write import sha256_of

UNBOUNDED_GIB = 1e9


@dataclass(slots=True)
class Moved:
    """What a move has done so far."""

    copied: int = 0
    there: int = 0  # files that were there already
    bytes: int = 0  # of those that were copied
    models: int = 0  # folders of models and checkpoints that are there now
    missing: list[str] = field(default_factory=list)  # files and folders that are not where they should come from


@dataclass(frozen=True, slots=True)
class Move:
    """From one bucket to another; None is the data directory.

    `paths` names that directory, which is on the way in any case.
    """

    source: Bucket | None
    target: Bucket | None
    paths: Paths
    cache_gib: float

    def run(self, blobs: Iterable[Blob], folders: Iterable[Path], done: Moved) -> None:
        """Copy what is not there yet, and count in `done`.

        Raises StorageDamaged for bytes that are not those of their row, StorageUnavailable and OSError.
        """
        here = self._here()
        for blob in blobs:
            if self._is_there(blob):
                done.there += 1
            else:
                try:
                    self._copy(blob, here)
                    done.copied += 1
                    done.bytes += blob.bytes
                except FileNotFoundError:
                    done.missing.append(blob.id)
        for folder in folders:
            if self._copy_folder(folder):
                done.models += 1
            else:
                done.missing.append(str(folder.relative_to(self.paths.root)))
        if self.target is not None and not done.missing:
            sign(self.target)

    def _here(self) -> BlobStore:
        if self.source is None:
            return BlobStore(self.paths.blobs)
        return CachedBlobStore(self.paths.blobs, self.source, self.cache_gib if self.target else UNBOUNDED_GIB)

    def _is_there(self, blob: Blob) -> bool:
        if self.target is None:
            path = BlobStore(self.paths.blobs).path(blob.id)
            return path.is_file() and sha256_of(path) == blob.sha256
        found = self.target.find(file_key(blob.id))
        return found is not None and found.bytes == blob.bytes and _digest(self.target, blob) == blob.sha256

    def _copy_folder(self, folder: Path) -> bool:
        """Copies a model's folder unless it is there; whether it is there now, and whole."""
        gib = self.cache_gib if self.target else UNBOUNDED_GIB
        if self.source is not None:
            BucketFolders(self.paths.root, self.source, gib).fetch(folder)
        if self.target is None:
            return self._is_kept(folder)
        target = BucketFolders(self.paths.root, self.target, gib)
        if target.is_published(folder):
            return True
        key = folder.relative_to(self.paths.root).as_posix()
        self.target.delete([f"{key}/{DIGESTS}"])  # so that every file of it is put, not only what differs
        target.publish(folder)
        return target.is_published(folder)

    def _is_kept(self, folder: Path) -> bool:
        """Whether a model's folder is here; from now on it is no copy of another one."""
        (folder / DIGESTS).unlink(missing_ok=True)
        return (folder / MANIFEST).is_file()

    def _copy(self, blob: Blob, here: BlobStore) -> None:
        if self.target is None:
            here.path(blob.id).unlink(missing_ok=True)  # bytes that are not the row's
        path = here.fetch(blob)
        if self.source is None and sha256_of(path) != blob.sha256:
            raise _damaged(blob, str(path))
        if self.target is not None:
            self.target.put(file_key(blob.id), path)
            if _digest(self.target, blob) != blob.sha256:
                raise _damaged(blob, self.target.url)


def _digest(bucket: Bucket, blob: Blob) -> str:
    digest = sha256()
    for chunk in bucket.read_whole(file_key(blob.id), blob.bytes):
        digest.update(chunk)
    return digest.hexdigest()


def _damaged(blob: Blob, where: str) -> StorageDamaged:
    return StorageDamaged(
        f"The bytes of {blob.id} in {where} are not those that were stored (SHA-256 {blob.sha256}). Nothing was"
        " removed. Restore them from a backup, or delete the file; then move again."
    )
