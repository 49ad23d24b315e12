"""With TUNESMITH_TEST_CLUSTER=1 the tests of this room keep everything in PostgreSQL and S3 (`make test-cluster`).

With TUNESMITH_TEST_RAY=1 as well their jobs train on a Ray cluster (`make test-cluster-ray`).
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.buckets import CREDENTIALS
from tests.databases import new_schema
from tests.ray_cluster import RAY, launching
from tests.servers import CLUSTER
from tests.train.conftest import write_tiny_base

from tunesmith.settings import Settings

# The others are about a disk and SQLite's file on it: how they are damaged, full, lost, or of an earlier version.
ANYWHERE = {"test_eval_kill", "test_verdict_time", "test_demo"}
TRAINING = {"test_verdict_time", "test_demo"}  # jobs that may train elsewhere
OF_RAY = {"test_kills", "test_several_nodes"}  # these have a cluster of their own
OF_A_CHILD = {"test_worker_kill", "test_ranks_kill"}  # these kill the worker's own children


@pytest.fixture(scope="module", autouse=True)
def elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if not os.environ.get(CLUSTER):
        yield
        return
    name = request.path.stem
    if name not in ANYWHERE | OF_RAY | OF_A_CHILD:
        pytest.skip("is about a disk and SQLite's file on it")
    if name in OF_A_CHILD and os.environ.get(RAY):
        pytest.skip("kills the worker's own children; tests/acceptance/ray kills those of nodes")
    given = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": request.getfixturevalue("s3_endpoint"),
        "TUNESMITH_STORAGE": f"s3://tunesmith/{name}",
        "TUNESMITH_DATABASE_URL": new_schema(request.getfixturevalue("postgres_socket")),
    }
    with ExitStack() as stack:
        if name in TRAINING:
            given |= stack.enter_context(launching(tmp_path_factory.mktemp("nodes"), given))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for variable, value in given.items():
            patch.setenv(variable, value)
        yield


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
