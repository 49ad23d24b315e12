"""Files in object storage, with copies in the data directory."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import update
from tests.buckets import keys
from tests.databases import Migrated
from tests.store.storage.conftest import add

from tunesmith.errors import InvalidRequest, ServerFault, TunesmithError
from tunesmith.settings import Settings
from tunesmith.store import Blob, JobFiles, JobRow, NewFile, Store, open_store
from tunesmith.store.queue.job_files import KEPT
from tunesmith.store.schema.tables import files
from tunesmith.store.storage import cached_blobs
from tunesmith.store.storage.bucket import (
    PART_BYTES,
    Bucket,
    StorageDamaged,
    StorageUnavailable,
    StoredObject,
    open_bucket,
)
from tunesmith.store.storage.cached_blobs import CachedBlobStore

KIB_IN_GIB = 1 / 2**20


def age(path: Path) -> None:
    """As if nobody had asked for it in an hour."""
    os.utime(path, (time.time() - 3600, path.stat().st_mtime))


def cache(store: Store, bucket: Bucket, kib: float) -> CachedBlobStore:
    """The store's directory, with another limit."""
    return CachedBlobStore(store.blobs.path("file-" + "0" * 24).parent, bucket, kib * KIB_IN_GIB)


def test_another_machine_reads_what_one_has_stored(store: Store, other: Store, bucket: Bucket) -> None:
    row = add(store, b"x" * (PART_BYTES + 3))  # in two parts
    assert keys(bucket) == {f"files/{row.id}"}
    assert not other.blobs.path(row.id).exists()
    copy = other.files.local_copy(row.id)
    assert copy == other.blobs.path(row.id)
    assert copy.read_bytes() == b"x" * (PART_BYTES + 3)
    assert b"".join(other.blobs.read(store.blobs.write([b"0123456789"]), 2, 5)) == b"234"


def test_several_threads_that_want_a_file_get_one_whole_copy(store: Store, other: Store) -> None:
    row = add(store, os.urandom(300_000))
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(other.files.local_copy(row.id).read_bytes())) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [store.blobs.path(row.id).read_bytes()] * 5
    assert [path.name for path in other.blobs.path(row.id).parent.glob("**/file-*")] == [row.id]


def test_bytes_that_are_not_those_of_the_row_are_refused(store: Store, other: Store, bucket: Bucket) -> None:
    row = add(store)
    bucket.put_bytes(f"files/{row.id}", b"one\nTWO\n")
    with pytest.raises(ServerFault, match=f"The bytes of {row.id} in the object storage are not those .* {row.sha256}"):
        other.files.local_copy(row.id)
    assert not other.blobs.path(row.id).exists()
    assert list((other.blobs.path(row.id).parent / ".partial").iterdir()) == []


def test_bytes_that_are_cut_off_are_refused_and_not_asked_for_again_and_again(
    store: Store, other: Store, bucket: Bucket
) -> None:
    row = add(store, b"x" * (PART_BYTES + 3))
    bucket.put_bytes(f"files/{row.id}", b"x" * 100)
    says = f"files/{row.id} in the object storage is shorter than what was stored"
    with pytest.raises(StorageDamaged, match=says):
        other.files.local_copy(row.id)
    with pytest.raises(StorageDamaged, match=says):
        list(other.blobs.read(Blob(row.id, row.bytes, row.sha256), 4000, row.bytes))
    assert list((other.blobs.path(row.id).parent / ".partial").iterdir()) == []


def test_a_copy_that_is_asked_for_while_room_is_made_stays(
    store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = add(store, b"x" * 2000)
    path = store.blobs.path(row.id)
    age(path)
    find = bucket.find

    def find_and_then(key: str) -> StoredObject | None:
        found = find(key)
        assert store.files.local_copy(row.id) == path  # somebody is told that it is here
        return found

    monkeypatch.setattr(bucket, "find", find_and_then)
    cache(store, bucket, 1).write([b"4" * 100])
    assert path.exists()


def test_deleting_takes_the_bytes_from_the_bucket_and_from_every_machine(
    store: Store, other: Store, bucket: Bucket
) -> None:
    row, stays = add(store), add(store)
    copy = other.files.local_copy(row.id)
    assert store.files.delete(row.id)
    assert keys(bucket) == {f"files/{stays.id}"}
    assert not store.blobs.path(row.id).exists()
    assert copy.exists()
    assert other.files.tidy() == 1
    assert not copy.exists()
    assert other.files.local_copy(row.id) == copy  # where nothing is, as in a data directory


def test_a_copy_that_was_not_used_for_longest_leaves_the_cache_first(store: Store, bucket: Bucket) -> None:
    old, older, new = (add(store, bytes([number]) * 1000) for number in range(3))
    for row in (old, older, new):
        age(store.blobs.path(row.id))
    store.files.local_copy(old.id)
    age(store.blobs.path(old.id))
    small = cache(store, bucket, 3)
    store.files.create(small.write([b"4" * 1000]), NewFile("user_data", "a"))
    assert [store.blobs.path(row.id).exists() for row in (old, older, new)] == [True, False, True]
    assert store.files.local_copy(older.id).read_bytes() == b"\x01" * 1000


@pytest.mark.parametrize("use", ["recent", "held", "linked", "unclaimed", "not in the bucket"])
def test_a_copy_in_use_stays_in_the_cache(store: Store, bucket: Bucket, tmp_path: Path, use: str) -> None:
    row = add(store, b"x" * 2000)
    path = store.blobs.path(row.id)
    if use == "unclaimed":
        path = store.blobs.path(store.blobs.write([b"x" * 2000]).id)
    if use == "not in the bucket":
        bucket.delete([f"files/{row.id}"])
    if use == "linked":
        store.files.copy_for_job(row.id, tmp_path / "job")
    with store.files.held(row.id) if use == "held" else nullcontext():
        if use != "recent":
            age(path)
        cache(store, bucket, 1).write([b"4" * 100])
    assert path.exists()


def test_a_job_keeps_its_own_link_until_it_has_ended(
    store: Store, store_settings: Settings, bucket: Bucket, make_job: Callable[..., JobRow]
) -> None:
    row = add(store, b"x" * 2000)
    job = make_job(training_file=row.id)
    folder = JobFiles(store_settings.paths.jobs, job.id).directory
    link = store.files.copy_for_job(row.id, folder)
    assert link == folder / f"{KEPT}{row.id}"
    store.blobs.path(row.id).unlink()
    bucket.delete([f"files/{row.id}"])
    assert store.files.copy_for_job(row.id, folder).read_bytes() == b"x" * 2000
    store.jobs.cancel(job.id)
    store.models.clean(job.id)
    assert not link.exists()


LEAVER = """
import sys
from tunesmith.settings import Settings
from tunesmith.store import NewFile, open_store

store = open_store(Settings.model_validate_json(sys.argv[1]))
named = store.blobs.write([b"named"])
store.blobs.claim = lambda blob: None
store.files.create(named, NewFile("user_data", "a"))
print(store.blobs.write([b"left"]).id, named.id)
"""


def test_what_a_dead_process_left_is_removed_after_a_day(
    store: Store, store_settings: Settings, other: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = add(store)
    settings = store_settings.model_dump_json()
    ran = subprocess.run([sys.executable, "-c", LEAVER, settings], capture_output=True, text=True, check=True)
    left, named = ran.stdout.split()
    before = {f"files/{one}" for one in (kept.id, left, named)} | {f"unclaimed/{one}" for one in (left, named)}
    assert keys(bucket) == before
    assert other.files.tidy() == 0  # too young
    assert keys(bucket) == before
    monkeypatch.setattr(cached_blobs, "ABANDONED_SECONDS", -60)
    monkeypatch.setattr(cached_blobs, "LIST_SECONDS", 0)
    assert other.files.tidy() == 1
    assert keys(bucket) == {f"files/{kept.id}", f"files/{named}"}


def test_the_wrong_database_and_its_neighbours_prefix_lose_nothing(
    store: Store, bucket: Bucket, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store)
    neighbour = open_bucket(f"{storage}-more")
    neighbour.put_bytes("unclaimed/file-" + "0" * 24, b"")
    neighbour.put_bytes("files/file-" + "0" * 24, b"")
    bucket.put_bytes("files/not-ours", b"")
    before = keys(bucket) | {f"files/file-{'0' * 24}"}
    monkeypatch.setattr(cached_blobs, "ABANDONED_SECONDS", -60)
    wrong = open_store(Settings(data_dir=tmp_path / "wrong", database_url=None, storage=storage))
    assert wrong.files.tidy() == 0
    wrong.close()
    assert store.files.tidy() == 0
    assert keys(bucket) | keys(neighbour) - {f"unclaimed/file-{'0' * 24}"} == before
    assert keys(neighbour) == {f"{folder}/file-{'0' * 24}" for folder in ("files", "unclaimed")}


def test_a_row_deleted_while_the_bucket_was_away_loses_its_object_later(
    store: Store, other: Store, bucket: Bucket
) -> None:
    row = add(store)
    with store.database.write() as connection:  # as far as `delete` comes then
        connection.execute(update(files).where(files.c.id == row.id).values(deleted_at=1))
    assert other.files.tidy() == 1
    assert keys(bucket) == set()


def test_an_upload_that_cannot_be_put_leaves_nothing_here(
    store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = open_bucket("s3://tunesmith-is-not-there/x")
    monkeypatch.setattr(store.blobs, "_bucket", away)
    with pytest.raises(StorageUnavailable, match=r"refuses; what is set for it has to be corrected\."):
        store.blobs.write([b"x"])
    directory = store.blobs.path("file-" + "0" * 24).parent
    assert [path for path in directory.rglob("*") if path.is_file()] == []


def test_a_bucket_that_is_away_does_not_keep_other_sweeps_from_their_work(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = add(store)
    copy = other.files.local_copy(row.id)
    monkeypatch.setattr(other.blobs, "_bucket", open_bucket("s3://tunesmith-is-not-there/x"))
    assert other.expire() == 0
    store.files.delete(row.id)
    assert other.expire() == 1
    assert not copy.exists()


def test_a_database_with_files_and_an_empty_bucket_do_not_belong_together(
    store: Store, store_settings: Settings, storage: str
) -> None:
    add(store)
    elsewhere = store_settings.model_copy(update={"storage": f"{storage}-empty"})
    with pytest.raises(InvalidRequest, match=r"has nothing of this installation.*tunesmith storage move"):
        open_store(elsewhere)
    with pytest.raises(InvalidRequest, match="has nothing of this installation"):  # it was not written meanwhile
        open_store(elsewhere)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"storage": "s3://tunesmith-is-not-there/x"}, "there is no such bucket: create it, or correct"),
        ({"storage_endpoint": "http://127.0.0.1:9"}, "does not answer or refuses. Try again. ("),
        ({"storage": "s3://"}, "'s3://' is not the URL of a bucket"),
        ({"storage": "/srv/files"}, "Leave it unset to keep files in the data directory."),
        ({"storage": "ftp://somewhere/x"}, "'ftp://somewhere/x' is not the URL of a bucket"),
        ({"storage": "gs://bucket", "storage_endpoint": "http://127.0.0.1:9"}, "for s3:// and az:// alone"),
    ],
    ids=["no bucket", "no server", "no name", "directory", "other scheme", "endpoint of gs"],
)
def test_a_storage_that_cannot_be_used_is_told_at_the_start(
    store_settings: Settings, migrated: Migrated, change: dict[str, str], says: str
) -> None:
    with pytest.raises(TunesmithError) as error:
        open_store(migrated(store_settings.model_copy(update=change)))
    assert says in str(error.value)


def test_wrong_credentials_are_told(bucket: Bucket, s3_endpoint: str) -> None:
    bucket.check()
    let_in(s3_endpoint, b"0")
    try:
        with pytest.raises(StorageUnavailable, match=r"its credentials (are not accepted|may not do this)"):
            bucket.check()
    finally:
        let_in(s3_endpoint, b"inf")
    bucket.check()
    assert keys(bucket) == set()


def let_in(endpoint: str, calls: bytes) -> None:
    """How many calls the server answers without looking at their credentials."""
    headers = {"Content-Type": "text/plain"}
    urlopen(Request(f"{endpoint}/moto-api/reset-auth", data=calls, headers=headers, method="POST"), timeout=10).close()
