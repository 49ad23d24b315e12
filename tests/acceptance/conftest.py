"""With TUNESMITH_TEST_CLUSTER=1 the tests of this room keep everything in PostgreSQL and S3 (`make test-cluster`)."""

import json
import os
from pathlib import Path

import pytest
from tests.buckets import CREDENTIALS
from tests.servers import CLUSTER
from tests.train.conftest import write_tiny_base

from tunesmith.settings import Settings

# The others are about a disk and SQLite's file on it: how they are damaged, full, lost, or of an earlier version.
ANYWHERE = {"test_worker_kill", "test_eval_kill", "test_verdict_time", "test_demo", "test_ranks_kill"}


@pytest.fixture(autouse=True)
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get(CLUSTER):
        return
    if request.path.stem not in ANYWHERE:
        pytest.skip("is about a disk and SQLite's file on it")
    monkeypatch.setenv("TUNESMITH_STORAGE", request.getfixturevalue("storage"))
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", request.getfixturevalue("postgres_url"))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def tiny_settings(folder: Path, base_dir: Path, **changes: object) -> Settings:
    """Of a new installation in `folder` whose only base is tiny, and whose trainers save at every step."""
    (folder / "base").mkdir()
    bases = {"tiny": str(write_tiny_base(base_dir, folder / "base"))}
    values: dict[str, object] = {"checkpoint_seconds": 0.01, "poll_seconds": 0.1, "train_idle": False, **changes}
    return Settings(data_dir=folder / "data", bases=bases, **values)  # type: ignore[arg-type]


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables of a process that is to have these settings."""
    given = settings.model_dump(mode="json", exclude_defaults=True)
    return {
        f"TUNESMITH_{name.upper()}": json.dumps(value) if isinstance(value, dict) else str(value)
        for name, value in given.items()
    }
