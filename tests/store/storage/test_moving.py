"""Files' bytes moved between the data directory and buckets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.buckets import keys
from tests.databases import Migrated
from tests.store.storage.conftest import add

from tunesmith.data_paths import Paths
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


def move(store: Store, source: Bucket | None, target: Bucket | None, root: Path) -> Moved:
    done = Moved()
    Move(source, target, Paths(root), cache_gib=1).run(store.files.all_blobs(), [], done)
    return done


def test_files_moved_there_and_back_are_equal(
    local: Store, store_settings: Settings, bucket: Bucket, tmp_path: Path
) -> None:
    contents = [b"one\n", b"x" * (PART_BYTES + 1), b""]
    rows = [add(local, content) for content in contents]
    gone = add(local)
    local.files.delete(gone.id)
    assert move(local, None, bucket, store_settings.paths.root) == Moved(copied=3, bytes=PART_BYTES + 5)
    assert keys(bucket) == {f"files/{row.id}" for row in rows}
    open_store(store_settings).close()  # the bucket is this installation's now
    back = tmp_path / "back"
    assert move(local, bucket, None, back) == Moved(copied=3, bytes=PART_BYTES + 5)
    assert [(back / "files" / row.id).read_bytes() for row in rows] == contents
    assert move(local, bucket, None, back) == Moved(there=3)


def test_a_move_goes_on_where_it_broke_off(local: Store, store_settings: Settings, bucket: Bucket) -> None:
    first, second, third = (add(local, bytes([number]) * 9) for number in range(3))
    path = store_settings.paths.blobs / second.id
    path.write_bytes(b"damaged!!")
    with pytest.raises(ServerFault, match=f"The bytes of {second.id} in .* are not those that were stored"):
        move(local, None, bucket, store_settings.paths.root)
    assert keys(bucket) == {f"files/{first.id}"}
    path.write_bytes(bytes([1]) * 9)
    assert move(local, None, bucket, store_settings.paths.root) == Moved(copied=2, there=1, bytes=18)
    bucket.put_bytes(f"files/{third.id}", b"damaged!!")
    assert move(local, None, bucket, store_settings.paths.root) == Moved(copied=1, there=2, bytes=9)
    assert b"".join(bucket.read(f"files/{third.id}", 0, 9)) == b"\x02" * 9


def test_files_whose_bytes_are_missing_are_named_and_the_bucket_is_not_signed(
    local: Store, store_settings: Settings, bucket: Bucket
) -> None:
    kept, lost = add(local), add(local)
    (store_settings.paths.blobs / lost.id).unlink()
    done = move(local, None, bucket, store_settings.paths.root)
    assert (done.copied, done.missing) == (1, [lost.id])
    assert keys(bucket) == {f"files/{kept.id}"}
    assert bucket.find("tunesmith.json") is None


def test_models_move_along_and_one_that_is_damaged_there_is_put_again(
    local: Store, store_settings: Settings, bucket: Bucket, tmp_path: Path
) -> None:
    folder = store_settings.paths.jobs / "ftjob-x" / "output" / "adapter"
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "manifest.json"):
        (folder / name).write_text(name)
    lost = folder.with_name("lost")

    def moved(source: Bucket | None, target: Bucket | None, root: Path, *folders: Path) -> Moved:
        done = Moved()
        Move(source, target, Paths(root), cache_gib=1).run([], folders, done)
        return done

    root = store_settings.paths.root
    assert moved(None, bucket, root, folder, lost) == Moved(models=1, missing=["jobs/ftjob-x/output/lost"])
    assert moved(None, bucket, root, folder) == Moved(models=1)
    bucket.put_bytes("jobs/ftjob-x/output/adapter/adapter_model.safetensors", b"damaged")
    assert moved(None, bucket, root, folder) == Moved(models=1)
    there = tmp_path / "back" / "jobs" / "ftjob-x" / "output" / "adapter"
    assert moved(bucket, None, tmp_path / "back", there) == Moved(models=1)
    assert {path.name: path.read_text() for path in there.iterdir()} == {
        name: name for name in ("adapter_model.safetensors", "manifest.json")
    }
