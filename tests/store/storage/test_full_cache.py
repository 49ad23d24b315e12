"""A cache on a disk without room."""

import errno
import os

import pytest
from tests.small_disk import SmallDisk
from tests.small_disk import small_disk as small_disk

from tunesmith.store.storage.bucket import Bucket
from tunesmith.store.storage.cached_blobs import CachedBlobStore


def test_a_copy_that_does_not_fit_leaves_nothing_and_comes_when_there_is_room(
    bucket: Bucket, small_disk: SmallDisk
) -> None:
    blobs = CachedBlobStore(small_disk.folder / "files", bucket, 1)
    content = os.urandom(3 * 1024**2)
    blob = blobs.write([content])
    blobs.claim(blob)
    blobs.path(blob.id).unlink()
    small_disk.fill(left=1024**2)
    for wanted in (lambda: blobs.fetch(blob), lambda: blobs.write([content])):
        with pytest.raises(OSError, match="No space left on device") as error:
            wanted()
        assert error.value.errno == errno.ENOSPC
    assert [path for path in (small_disk.folder / "files").rglob("*") if path.is_file()] == []
    small_disk.clear()
    assert blobs.fetch(blob).read_bytes() == content
