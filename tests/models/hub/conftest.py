"""A hub with one repository, and settings with an empty cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.hub_server import Hub, running, use

from tunesmith.settings import Settings

REPOSITORY = "owner/name"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def hub(tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running(Hub()) as server:
        use(server, tmp_path / "hub", monkeypatch)
        server.add(REPOSITORY, tiny_dir)
        yield server
