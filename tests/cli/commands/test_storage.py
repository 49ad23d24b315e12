"""`tunesmith storage …`, on a real S3 server."""

from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith

from tunesmith.settings import Settings
from tunesmith.store import NewFile, open_store


@pytest.fixture
def content() -> bytes:
    return b'{"messages": []}\n'


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> str:
    store = open_store(Settings(data_dir=tmp_path / "data"))
    row = store.files.create(store.blobs.write([content]), NewFile("fine-tune", "rows.jsonl"))
    store.close()
    return row.id


def test_files_go_to_a_bucket_and_come_back(
    tunesmith: Tunesmith, tmp_path: Path, storage: str, file: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tunesmith("storage", "move", "local", storage)
    assert (moved.code, moved.out) == (0, "")
    assert "1 file copied" in moved.err
    assert f"set storage to {storage}" in moved.err
    monkeypatch.setenv("TUNESMITH_STORAGE", storage)
    path = tmp_path / "data" / "files" / file
    path.unlink()
    store = open_store(Settings(data_dir=tmp_path / "data"))
    assert store.files.local_copy(file).read_bytes() == content
    store.close()
    path.unlink()
    back = tunesmith("storage", "move", storage, "local", "--json")
    assert back.json == {"copied": 1, "already_there": 0, "bytes": len(content), "models": 0, "missing": []}
    assert path.read_bytes() == content
    assert "unset the setting storage" in back.err


def test_a_file_without_bytes_is_named(tunesmith: Tunesmith, tmp_path: Path, storage: str, file: str) -> None:
    (tmp_path / "data" / "files" / file).unlink()
    ran = tunesmith("storage", "move", "local", storage)
    assert ran.code == 1
    assert f"Not in local: {file}." in " ".join(ran.err.split())


def test_the_bucket_of_the_settings_is_tried(
    tunesmith: Tunesmith, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unset = tunesmith("storage", "check")
    assert (unset.code, "the setting storage is not set" in " ".join(unset.err.split())) == (0, True)
    monkeypatch.setenv("TUNESMITH_STORAGE", storage)
    ran = tunesmith("storage", "check")
    assert ran.code == 0
    assert f"{storage} takes, gives back, lists and removes an object" in " ".join(ran.err.split())
    monkeypatch.setenv("TUNESMITH_STORAGE", "s3://tunesmith-is-not-there/x")
    lost = tunesmith("storage", "check")
    assert lost.code == 1
    said = " ".join(lost.err.split())
    assert "there is no such bucket: create it, or correct the setting storage" in said
    assert said.startswith("error: The object storage of the server's files refuses; what is set for it has to be")
    assert "NoSuchBucket: " in said
    assert "<" not in said


@pytest.mark.parametrize(
    ("places", "says"),
    [
        (("local", "local"), "Both places are local"),
        (("local", "ftp://x/y"), "error: 'ftp://x/y' is not the URL of a bucket"),
        (("nowhere", "local"), "PREFIX, and not local, which is the data directory."),
    ],
    ids=["same", "no bucket", "no URL"],
)
def test_places_that_are_none_are_refused(tunesmith: Tunesmith, places: tuple[str, str], says: str) -> None:
    ran = tunesmith("storage", "move", *places)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())
