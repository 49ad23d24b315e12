"""Bytes on disk."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.store.objects.blobs import BlobStore
from tunesmith.store.storage.cached_blobs import CachedBlobStore


@pytest.fixture(params=["local", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "local":
        return BlobStore(tmp_path)
    return CachedBlobStore(tmp_path, request.getfixturevalue("bucket"), 1)


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_blob_has_its_bytes_size_and_hash(blobs: BlobStore) -> None:
    blob = blobs.write([b"one ", b"two"])
    assert blobs.path(blob.id).read_bytes() == b"one two"
    assert (blob.bytes, blob.sha256) == (7, sha256(b"one two").hexdigest())


def test_a_claimed_blob_is_alone_on_disk(blobs: BlobStore, tmp_path: Path) -> None:
    blob = blobs.write([b"x"])
    blobs.claim(blob)
    assert names(tmp_path) == {blob.id}


def test_an_upload_over_the_limit_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="larger than 5 bytes, the limit here"):
        blobs.write([b"1234", b"56"], max_bytes=5)
    assert names(tmp_path) == set()


def test_an_upload_that_breaks_off_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        blobs.write(broken())
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["../secret", "file-../../../../etc/passwd", "/etc/passwd", "", "file-short"])
def test_only_an_id_becomes_a_path(blobs: BlobStore, name: str) -> None:
    with pytest.raises(NotFound):
        blobs.path(name)


WRITER = """
import sys, time
from pathlib import Path
from tunesmith.store.objects.blobs import BlobStore

def chunks():
    yield b"half"
    print("writing", flush=True)
    time.sleep(60)

BlobStore(Path(sys.argv[1])).write(chunks())
"""


def test_a_sweep_spares_the_living_and_removes_what_the_dead_left(blobs: BlobStore, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert blobs.sweep_partial() == []
        assert len(names(tmp_path)) == 1
        writer.send_signal(signal.SIGKILL)
    assert blobs.sweep_partial() == []
    assert names(tmp_path) == set()


LEAVER = """
import sys
from pathlib import Path
from tunesmith.store.objects.blobs import BlobStore

blobs = BlobStore(Path(sys.argv[1]))
print(*(blobs.write([b"x"]).id for _ in range(2)))
"""


def test_a_sweep_removes_only_blobs_that_no_process_is_to_claim(blobs: BlobStore, tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", LEAVER, str(tmp_path)], capture_output=True, text=True, check=True)
    left, named = ran.stdout.split()
    held, deleted = (blobs.write([b"x"]) for _ in range(2))
    blobs.claim(deleted)
    abandoned = blobs.sweep_partial()
    assert set(abandoned) == {left, named}
    assert blobs.sweep(abandoned, live={named, held.id}, deleted={deleted.id}) == 2
    assert names(tmp_path) == {held.id, f".partial/{held.id}.unclaimed", named}
    blobs.claim(held)
    assert names(tmp_path) == {held.id, named}


def test_a_sweep_with_the_wrong_database_loses_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    blob = blobs.write([b"x"])
    blobs.claim(blob)
    assert blobs.sweep(blobs.sweep_partial(), live=(), deleted=()) == 0
    assert names(tmp_path) == {blob.id}
