"""Two machines on one database and one bucket."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.databases import Migrated

from tunesmith.settings import Settings
from tunesmith.store import FileRow, NewFile, Store, open_store


@pytest.fixture
def store_settings(tmp_path: Path, storage: str) -> Settings:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    return Settings(data_dir=tmp_path / "one", database_url=url, storage=storage)


@pytest.fixture
def migrated(migrated_file: Path) -> Migrated:
    def make(settings: Settings) -> Settings:
        assert settings.database_url is not None
        Path(settings.database_url.removeprefix("sqlite:///")).write_bytes(migrated_file.read_bytes())
        return settings

    return make


@pytest.fixture
def other(store: Store, store_settings: Settings, tmp_path: Path) -> Iterator[Store]:
    """The other machine."""
    opened = open_store(store_settings.model_copy(update={"data_dir": tmp_path / "two"}))
    yield opened
    opened.close()


def add(store: Store, content: bytes = b"one\ntwo\n", **values: object) -> FileRow:
    new = NewFile(purpose="fine-tune", filename="rows.jsonl")
    return store.files.create(store.blobs.write([content]), replace(new, **values))  # type: ignore[arg-type]
