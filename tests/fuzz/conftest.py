"""A seeded server for the fuzzers, and an object for every name in a path."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.servers import Server, serving

from tunesmith.settings import Settings
from tunesmith.store import open_store

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
from api_world import World
from tests.fuzz.objects import Objects


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, small_base: str) -> Iterator[Server]:
    """No worker: a training job for each of some hundred requests would take hours."""
    directory = tmp_path_factory.mktemp("fuzz")
    options = {"chat_max_tokens": "2", "serve_weights": "float32", "bases": small_base}
    with serving(directory, "--no-worker", "--log-level", "warning", **options) as server:
        yield server


@pytest.fixture(scope="session")
def world(server: Server) -> Iterator[World]:
    settings = Settings(data_dir=server.data_dir)
    store, root = open_store(settings), server.base_url.removesuffix("/v1")
    with httpx.Client(base_url=root, headers={"authorization": f"Bearer {server.key}"}, timeout=60) as client:
        yield World(client, store, settings)
    store.close()


@pytest.fixture(scope="session")
def objects(world: World) -> Objects:
    """Our names of them and OpenAI's."""
    organization = "/v1/organization"

    def made(path: str, name: str = "fuzzed") -> str:
        return str(world.client.post(f"{organization}/{path}", json={"name": name}).raise_for_status().json()["id"])

    return Objects(
        {
            "file_id": world.file,
            "upload_id": world.upload,
            "completion_id": world.chat,
            "job_id": world.job,
            "fine_tuning_job_id": world.job,
            "name": lambda: world.tuned,
            "model": lambda: world.tuned,
            "fine_tuned_model_checkpoint": lambda: world.tuned,
            "permission_id": world.permission,
            "project_id": lambda: made("projects"),
            "key_id": lambda: made("admin_api_keys"),
        }
    )
