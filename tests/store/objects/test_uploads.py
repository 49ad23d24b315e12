"""Uploads in parts: order, promise, ends, and what a killed process leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.databases import settings_over

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.settings import Settings
from tunesmith.store import NewUpload, Store, UploadRow, open_store
from tunesmith.store.objects.uploads import GRACE_SECONDS, ORPHAN_SECONDS
from tunesmith.store.schema.tables import uploads
from tunesmith.store.storage.bucket import open_bucket

ROOM = 1000


@pytest.fixture(params=["sqlite", "postgresql", "bucket"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_over(request, tmp_path)


def begin(store: Store, size: int = 6, **changes: object) -> UploadRow:
    values = {"filename": "rows.jsonl", "purpose": "fine-tune", "bytes": size, "mime_type": "text/jsonl"}
    return store.uploads.create(NewUpload(**(values | changes)), seconds=3600)  # type: ignore[arg-type]


def add(store: Store, upload: UploadRow, content: bytes) -> str:
    return store.uploads.add_part(upload.id, [content], room=ROOM).id


def age(store: Store, upload: UploadRow, seconds: int) -> None:
    """Makes the upload's time end so many seconds ago."""
    with store.database.write() as connection:
        ended = int(time.time()) - seconds
        connection.execute(update(uploads).where(uploads.c.id == upload.id).values(expires_at=ended))


def kept(settings: Settings) -> list[str]:
    """The names of uploads' folders and of their parts, wherever they are kept."""
    found = {path.name for path in (settings.paths.blobs / ".uploads").rglob("*")}
    if settings.storage is not None:
        found |= {name for one in open_bucket(settings.storage).list("uploads") for name in one.key.split("/")[1:]}
    return sorted(found)


def test_parts_become_a_file_in_the_order_of_their_ids(store: Store, store_settings: Settings) -> None:
    upload = begin(store, file_lifetime=3600)
    assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)
    second, first = add(store, upload, b"def"), add(store, upload, b"abc")
    done, file = store.uploads.complete(upload.id, [first, second], md5(b"abcdef").hexdigest().upper())
    assert file is not None
    assert (done.status, done.file_id, file.status, file.bytes) == ("completed", file.id, "uploaded", 6)
    assert file.expires_at == pytest.approx(time.time() + 3600, abs=2)
    assert store.blobs.path(file.id).read_bytes() == b"abcdef"
    assert store.files.get(file.id) == file
    assert kept(store_settings) == []


def test_parts_may_come_at_once(store: Store) -> None:
    upload = begin(store, 80)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: add(store, upload, bytes([48 + number]) * 10), range(8)))
    _, file = store.uploads.complete(upload.id, ids, None)
    assert file is not None
    assert store.blobs.path(file.id).read_bytes() == b"".join(bytes([48 + number]) * 10 for number in range(8))


def test_completing_twice_gives_the_same_file(store: Store) -> None:
    upload = begin(store)
    part = add(store, upload, b"abcdef")
    first = store.uploads.complete(upload.id, [part], None)
    assert store.uploads.complete(upload.id, [part], None) == first
    assert len(store.files.page().data) == 1
    with pytest.raises(InvalidRequest, match="is completed"):
        store.uploads.complete(upload.id, ["part_of_another"], None)


def test_two_who_complete_at_once_make_one_file(store: Store) -> None:
    upload = begin(store)
    part = add(store, upload, b"abcdef")

    def complete(_: int) -> str | None:
        return store.uploads.complete(upload.id, [part], None)[0].file_id

    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(complete, range(4)))
    assert made == {file.id for file in store.files.page().data}
    assert len(made) == 1


def test_what_does_not_fit_the_promise_is_refused_and_can_be_corrected(store: Store) -> None:
    upload = begin(store)
    one, two = add(store, upload, b"abc"), add(store, upload, b"def")
    with pytest.raises(InvalidRequest, match=r"hold 3 bytes, but the upload was created for 6"):
        store.uploads.complete(upload.id, [one], None)
    with pytest.raises(InvalidRequest, match="is not a part of"):
        store.uploads.complete(upload.id, [one, "part_x"], None)
    with pytest.raises(InvalidRequest, match="named twice"):
        store.uploads.complete(upload.id, [one, one], None)
    with pytest.raises(InvalidRequest, match="md5") as caught:
        store.uploads.complete(upload.id, [two, one], md5(b"abcdef").hexdigest())
    assert caught.value.param == "md5"
    assert store.files.page().data == ()
    assert store.uploads.complete(upload.id, [one, two], None)[0].status == "completed"


def test_a_part_of_another_upload_is_none_of_this_one(store: Store) -> None:
    mine, other = begin(store), begin(store)
    part = add(store, other, b"abcdef")
    with pytest.raises(InvalidRequest, match="is not a part of"):
        store.uploads.complete(mine.id, [part], None)


def test_a_cancelled_upload_takes_nothing_and_keeps_nothing(store: Store, store_settings: Settings) -> None:
    upload = begin(store)
    part = add(store, upload, b"abcdef")
    assert store.uploads.cancel(upload.id).status == "cancelled"
    assert store.uploads.cancel(upload.id).status == "cancelled"
    for call in (
        lambda: add(store, upload, b"x"),
        lambda: store.uploads.complete(upload.id, [part], None),
    ):
        with pytest.raises(InvalidRequest, match="is cancelled") as caught:
            call()
        assert caught.value.code == "upload_cancelled"
    assert kept(store_settings) == []


def test_a_cancel_while_a_part_comes_in_refuses_the_part(store: Store, store_settings: Settings) -> None:
    upload = begin(store)

    def slow() -> Iterator[bytes]:
        yield b"abc"
        store.uploads.cancel(upload.id)
        yield b"def"

    with pytest.raises(InvalidRequest, match="is cancelled"):
        store.uploads.add_part(upload.id, slow(), room=ROOM)
    assert kept(store_settings) == []


def test_an_upload_expires_at_once_and_its_bytes_later(store: Store, store_settings: Settings) -> None:
    upload = begin(store)
    part = add(store, upload, b"abcdef")
    age(store, upload, 1)
    found = store.uploads.get(upload.id)
    assert found is not None
    assert found.status == "expired"
    for call in (
        lambda: add(store, upload, b"x"),
        lambda: store.uploads.complete(upload.id, [part], None),
        lambda: store.uploads.cancel(upload.id),
    ):
        with pytest.raises(InvalidRequest, match="is expired at"):
            call()
    assert store.uploads.sweep() == 0  # a completion that began in time may still read
    age(store, upload, GRACE_SECONDS + 1)
    assert store.uploads.sweep() == 1
    assert kept(store_settings) == []
    again = store.uploads.get(upload.id)
    assert again is not None
    assert again.status == "expired"


def test_a_sweep_leaves_pending_uploads_and_young_strangers_alone(store: Store, store_settings: Settings) -> None:
    upload = begin(store)
    part = add(store, upload, b"abcdef")
    young, old = (store_settings.paths.blobs / ".uploads" / f"upload_{digit * 32}" for digit in "ab")
    for directory, seconds in ((young, 60), (old, ORPHAN_SECONDS + 60)):
        directory.mkdir()
        past = time.time() - seconds
        os.utime(directory, (past, past))
    assert store.uploads.sweep() == 1
    assert (young.exists(), old.exists()) == (True, False)
    assert store.uploads.complete(upload.id, [part], None)[0].status == "completed"


def test_parts_that_nobody_names_have_an_end(store: Store, store_settings: Settings) -> None:
    upload = begin(store)
    store.uploads.add_part(upload.id, [b"abcdef"], room=10)
    with pytest.raises(InvalidRequest, match="more than the 10"):
        store.uploads.add_part(upload.id, [b"abcdef"], room=10)
    assert len(kept(store_settings)) == 2  # the upload's directory and its one part


@pytest.mark.parametrize("upload_id", ["upload_" + "0" * 32, "upload_../..", "../../etc", ""])
def test_an_unknown_upload_is_not_found(store: Store, upload_id: str) -> None:
    assert store.uploads.get(upload_id) is None
    for call in (
        lambda: store.uploads.add_part(upload_id, [b"x"], room=1),
        lambda: store.uploads.complete(upload_id, ["x"], None),
        lambda: store.uploads.cancel(upload_id),
    ):
        with pytest.raises(NotFound, match="No such Upload object"):
            call()


def test_an_upload_of_another_project_is_not_there(store: Store) -> None:
    upload = begin(store, project="default")
    other = store.of("proj_other")
    assert store.of("default").uploads.get(upload.id) == upload
    assert other.uploads.get(upload.id) is None
    with pytest.raises(NotFound):
        other.uploads.cancel(upload.id)


WRITER = """
import json, sys
from tunesmith.settings import Settings
from tunesmith.store import open_store
store = open_store(Settings(**json.loads(sys.argv[1])))
while True:
    part = store.uploads.add_part(sys.argv[2], [b"0123456789" * 10_000], room=10**9)
    print(part.id, flush=True)
"""


def test_parts_survive_kill_9_and_the_upload_goes_on(store: Store, store_settings: Settings) -> None:
    upload = begin(store, 600_000)
    command = [sys.executable, "-c", WRITER, store_settings.model_dump_json(), upload.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(5)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
    again = open_store(store_settings)
    missing = b"x" * (600_000 - 100_000 * len(acknowledged[:5]))
    last = again.uploads.add_part(upload.id, [missing], room=10**9).id
    _, file = again.uploads.complete(upload.id, [*acknowledged[:5], last], None)
    assert file is not None
    assert again.blobs.path(file.id).read_bytes() == b"0123456789" * 50_000 + missing
    again.close()


def test_a_completion_that_was_killed_can_be_repeated(store: Store, store_settings: Settings) -> None:
    upload = begin(store)
    part = add(store, upload, b"abcdef")
    whole = store.blobs.write([b"abcdef"])  # as far as a killed process had come: all but the commit
    again = open_store(store_settings)
    _, file = again.uploads.complete(upload.id, [part], None)
    assert file is not None
    assert file.id != whole.id
    assert again.blobs.path(file.id).read_bytes() == b"abcdef"
    again.close()
