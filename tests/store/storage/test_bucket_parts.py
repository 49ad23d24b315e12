"""Uploads in parts over two machines, which share a database and a bucket and nothing else."""

import time
from hashlib import md5

import pytest
from sqlalchemy import update

from tunesmith.errors import InvalidRequest
from tunesmith.settings import Settings
from tunesmith.store import NewUpload, Store, UploadRow
from tunesmith.store.objects.uploads import GRACE_SECONDS
from tunesmith.store.schema.tables import uploads
from tunesmith.store.storage.bucket import Bucket

LARGE = b"0123456789abcdef" * 600_000  # more than one part of an object


def begin(store: Store, size: int) -> UploadRow:
    new = NewUpload(filename="rows.jsonl", purpose="fine-tune", bytes=size, mime_type="text/jsonl")
    return store.uploads.create(new, seconds=3600)


def add(store: Store, upload: UploadRow, content: bytes) -> str:
    return store.uploads.add_part(upload.id, [content[:1000], content[1000:]], room=20_000_000).id


def parts(bucket: Bucket) -> list[str]:
    return [one.key for one in bucket.list("uploads")]


def test_parts_sent_to_one_are_completed_by_the_other(
    store: Store, other: Store, bucket: Bucket, store_settings: Settings
) -> None:
    upload = begin(store, len(LARGE) + 6)
    ids = [add(store, upload, b"abc"), add(other, upload, LARGE), add(store, upload, b"def")]
    assert len(parts(bucket)) == 3
    whole = b"abc" + LARGE + b"def"
    done, file = other.uploads.complete(upload.id, ids, md5(whole).hexdigest())
    assert file is not None
    assert store.files.local_copy(file.id).read_bytes() == whole
    assert parts(bucket) == []
    assert store.uploads.complete(upload.id, ids, None) == (done, file)
    assert [path.name for path in (store_settings.paths.blobs / ".uploads").iterdir()] == []


def test_an_upload_that_one_cancels_takes_no_parts_of_the_other(store: Store, other: Store, bucket: Bucket) -> None:
    upload = begin(store, 6)
    add(store, upload, b"abc")
    assert other.uploads.cancel(upload.id).status == "cancelled"
    assert parts(bucket) == []
    with pytest.raises(InvalidRequest, match="is cancelled"):
        add(store, upload, b"def")
    assert parts(bucket) == []


def test_parts_of_an_upload_that_has_expired_are_swept_by_any(store: Store, other: Store, bucket: Bucket) -> None:
    gone, kept = begin(store, 6), begin(store, 6)
    add(store, gone, b"abc"), add(store, kept, b"abc")
    with store.database.write() as connection:
        ended = int(time.time()) - GRACE_SECONDS - 1
        connection.execute(update(uploads).where(uploads.c.id == gone.id).values(expires_at=ended))
    assert other.uploads.sweep() == 1
    assert [key.split("/")[1] for key in parts(bucket)] == [kept.id]


def test_an_upload_whose_parts_stayed_behind_says_that_it_has_to_be_sent_again(store: Store, bucket: Bucket) -> None:
    upload = begin(store, 6)
    ids = [add(store, upload, b"abc"), add(store, upload, b"def")]
    bucket.delete(parts(bucket)[:1])
    with pytest.raises(InvalidRequest, match=r"are not there any more.* Cancel it, and create another one"):
        store.uploads.complete(upload.id, ids, None)
    assert store.uploads.cancel(upload.id).status == "cancelled"
