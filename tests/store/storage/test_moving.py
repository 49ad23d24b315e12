"""Files' bytes moved between the data directory and buckets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.buckets import keys
from tests.databases import Migrated
from tests.store.storage.conftest import add

from tunesmith.errors import ServerFault
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.store.storage.bucket import PART_BYTES, Bucket
from tunesmith.store.storage.moving import Move, Moved


@pytest.fixture
def local(store_settings: Settings, migrated: Migrated) -> Iterator[Store]:
    """A store whose files are in its data directory."""
    opened = open_store(migrated(store_settings).model_copy(update={"storage": None}))
    yield opened
    opened.close()


def move(store: Store, source: Bucket | None, target: Bucket | None, directory: Path) -> Moved:
    done = Moved()
    Move(source, target, directory, cache_gib=1).run(store.files.all_blobs(), done)
    return done


def test_files_moved_there_and_back_are_equal(
    local: Store, store_settings: Settings, bucket: Bucket, tmp_path: Path
) -> None:
    contents = [b"one\n", b"x" * (PART_BYTES + 1), b""]
    rows = [add(local, content) for content in contents]
    gone = add(local)
    local.files.delete(gone.id)
    assert move(local, None, bucket, store_settings.paths.blobs) == Moved(copied=3, bytes=PART_BYTES + 5)
    assert keys(bucket) == {f"files/{row.id}" for row in rows}
    open_store(store_settings).close()  # the bucket is this installation's now
    back = tmp_path / "back"
    assert move(local, bucket, None, back) == Moved(copied=3, bytes=PART_BYTES + 5)
    assert [(back / row.id).read_bytes() for row in rows] == contents
    assert move(local, bucket, None, back) == Moved(there=3)


def test_a_move_goes_on_where_it_broke_off(local: Store, store_settings: Settings, bucket: Bucket) -> None:
    first, second, third = (add(local, bytes([number]) * 9) for number in range(3))
    path = store_settings.paths.blobs / second.id
    path.write_bytes(b"damaged!!")
    with pytest.raises(ServerFault, match=f"The bytes of {second.id} in .* are not those that were stored"):
        move(local, None, bucket, store_settings.paths.blobs)
    assert keys(bucket) == {f"files/{first.id}"}
    path.write_bytes(bytes([1]) * 9)
    assert move(local, None, bucket, store_settings.paths.blobs) == Moved(copied=2, there=1, bytes=18)
    bucket.put_bytes(f"files/{third.id}", b"damaged!!")
    assert move(local, None, bucket, store_settings.paths.blobs) == Moved(copied=1, there=2, bytes=9)
    assert b"".join(bucket.read(f"files/{third.id}", 0, 9)) == b"\x02" * 9


def test_files_whose_bytes_are_missing_are_named_and_the_bucket_is_not_signed(
    local: Store, store_settings: Settings, bucket: Bucket
) -> None:
    kept, lost = add(local), add(local)
    (store_settings.paths.blobs / lost.id).unlink()
    done = move(local, None, bucket, store_settings.paths.blobs)
    assert (done.copied, done.missing) == (1, [lost.id])
    assert keys(bucket) == {f"files/{kept.id}"}
    assert bucket.find("tunesmith.json") is None
