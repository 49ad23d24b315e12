"""One cluster for the tests of this room, with a tiny base that trains in seconds."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.cluster.machines import Cluster, clustered
from tests.train.conftest import of_tiny_base, write_tiny_base


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, base_dir: Path) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    (directory / "base").mkdir()
    base = write_tiny_base(base_dir, directory / "base")
    settings = {
        "bases": of_tiny_base(base)["TUNESMITH_BASES"],
        "base_model": "tiny",
        "serve_weights": "float32",
        "train_threads": "1",
        "poll_seconds": "0.1",
        "limit_requests_per_minute": "100000",  # so that every request is counted in the database
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with clustered(directory, **settings) as cluster:
            yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=cluster.base_url, api_key=cluster.key, max_retries=0) as client:
        yield client
