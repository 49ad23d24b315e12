"""With TUNESMITH_TEST_CLUSTER=1 the tests of this room keep everything in PostgreSQL and S3 (`make test-cluster`)."""

import os

import pytest
from tests.buckets import CREDENTIALS
from tests.servers import CLUSTER

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
