"""A lost database is not taken for a first start: nothing is made anew, and the first key stays."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.damage.ways import cut, empty, garbage, gone

from tunesmith.errors import ServerFault
from tunesmith.settings import Settings
from tunesmith.store import NewFile, open_store

DATABASE = ("tunesmith.db", "tunesmith.db-wal", "tunesmith.db-shm")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation with a key and a file."""
    made = Settings(data_dir=tmp_path / "data")
    store = open_store(made)
    store.keys.ensure_first(made.paths.api_key_file)
    store.files.create(store.blobs.write([b"{}\n"]), NewFile("fine-tune", "a.jsonl"))
    store.close()
    return made


def everything(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


@pytest.mark.parametrize("way", [gone, empty, cut, garbage], ids=lambda way: way.__name__)
def test_a_start_without_the_database_is_refused_and_changes_nothing(
    settings: Settings, way: Callable[[Path], None]
) -> None:
    for name in DATABASE[1:]:
        (settings.paths.root / name).unlink(missing_ok=True)
    way(settings.paths.database)
    before = everything(settings.paths.root)
    with pytest.raises(ServerFault, match=r"tunesmith\.db.*restore") as refused:
        open_store(settings)
    assert "api-key, 1 file in files/" in str(refused.value) or way is cut
    assert everything(settings.paths.root) == before


def test_a_wrong_database_url_is_refused_and_makes_no_database(settings: Settings, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with pytest.raises(ServerFault, match="is not there") as refused:
        open_store(settings.model_copy(update={"database_url": f"sqlite:///{other}"}))
    assert "If the setting database_url is wrong, correct it" in str(refused.value)
    assert not other.exists()


def test_another_installations_empty_database_is_refused(settings: Settings, tmp_path: Path) -> None:
    other = Settings(data_dir=tmp_path / "other")
    open_store(other).close()
    mixed = settings.model_copy(update={"database_url": f"sqlite:///{other.paths.database}"})
    with pytest.raises(ServerFault, match="has no keys, files or jobs"):
        open_store(mixed)


@pytest.mark.parametrize("left", ["api-key", "files", "jobs"])
def test_each_of_our_files_is_reason_enough(settings: Settings, left: str) -> None:
    (settings.paths.jobs / "ftjob-1" / "output").mkdir(parents=True)
    for path in settings.paths.root.iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ServerFault, match="is not there"):
        open_store(settings)
    assert [path.name for path in settings.paths.root.iterdir() if path.is_file()] == (
        [left] if left == "api-key" else []
    )


def test_a_directory_with_other_peoples_files_is_a_new_installation(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "files").mkdir()
    store = open_store(settings)
    assert store.keys.ensure_first(settings.paths.api_key_file) is not None
    store.close()


def test_a_first_start_that_was_killed_before_its_commit_keeps_its_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    store = open_store(settings)
    key = store.keys.ensure_first(settings.paths.api_key_file)
    store.close()
    with sqlite3.connect(settings.paths.database) as database:
        database.execute("delete from keys")
    database.close()
    store = open_store(settings)
    assert store.keys.ensure_first(settings.paths.api_key_file) == key
    assert key is not None
    assert store.keys.verify(key) is not None
    store.close()


def test_serve_says_it_in_one_sentence(settings: Settings) -> None:
    settings.paths.database.unlink()
    key = settings.paths.api_key_file.read_text()
    command = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0"]
    environment = {**os.environ, "TUNESMITH_DATA_DIR": str(settings.paths.root)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "has the files of an installation (api-key, 1 file in files/)" in " ".join(ran.stderr.split())
    assert settings.paths.api_key_file.read_text() == key
