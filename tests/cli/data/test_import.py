"""`tunesmith import openai`, on what examples/export_openai.py saved from a real server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.cli.conftest import Server, Tunesmith

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import open_store

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "export_openai.py"


@pytest.fixture(scope="session")
def exported(server: Server, trained: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's one job, saved by the example as if the server were OpenAI."""
    folder = tmp_path_factory.mktemp("export") / "openai-export"
    environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.key}
    command = [sys.executable, str(SCRIPT), str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert trained in ran.stdout
    return folder


def test_job_moves_with_its_files_and_history(
    tunesmith: Tunesmith, exported: Path, trained: str, tmp_path: Path
) -> None:
    ran = tunesmith("import", "openai", exported)
    assert ran.code == 0, ran.err
    assert f"{trained}  succeeded  imported" in ran.out
    before = json.loads((exported / "jobs.json").read_text("utf-8"))[0]
    settings = Settings(data_dir=tmp_path / "data")
    store = open_store(settings)
    raw = store.keys.create("tests")[0]
    path = f"/v1/fine_tuning/jobs/{trained}"
    with TestClient(create_app(settings, store, Pool(settings)), headers={"Authorization": f"Bearer {raw}"}) as client:
        after = client.get(path).json()
        assert {name: after[name] for name in before if name != "tunesmith"} == {
            name: value for name, value in before.items() if name != "tunesmith"
        }
        events = client.get(f"{path}/events", params={"limit": 100}).json()["data"]
        assert events == json.loads((exported / "events" / f"{trained}.json").read_text("utf-8"))
        points = client.get(f"{path}/checkpoints").json()["data"]
        assert points == json.loads((exported / "checkpoints" / f"{trained}.json").read_text("utf-8"))
        for file_id in (after["training_file"], *after["result_files"]):
            content = client.get(f"/v1/files/{file_id}/content").content
            assert content == (exported / "files" / file_id).read_bytes()
        body = {"model": after["fine_tuned_model"], "messages": [{"role": "user", "content": "Hi"}]}
        refusal = client.post("/v1/chat/completions", json=body)
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "model_without_weights")
        assert after["fine_tuned_model"] in client.get("/v1/models").text
    store.close()


def test_report_has_the_command_and_the_second_time_changes_nothing(
    tunesmith: Tunesmith, exported: Path, trained: str
) -> None:
    first = tunesmith("import", "openai", exported, "--json").json
    second = tunesmith("import", "openai", exported, "--json").json
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    (job,) = first["jobs"]
    assert f"tunesmith train {exported}/files/file-" in job["command"]
    assert "--epochs 1 --batch-size 6" in job["command"]
    assert job["differences"]
    assert set(first["files"].values()) == {"imported"}
    assert set(second["files"].values()) == {"here already"}
    assert second["jobs"] == [{**job, "outcome": "here already"}]


def test_unfinished_job_is_left_out(tunesmith: Tunesmith, tmp_path: Path) -> None:
    job = {"id": "ftjob-running00", "model": "gpt-4o-mini", "created_at": 5, "status": "running"}
    (tmp_path / "jobs.json").write_text(json.dumps([{**job, "training_file": "file-MNu4SQN4hf2nJmWVXyv8qW"}]))
    ran = tunesmith("import", "openai", tmp_path)
    assert ran.code == 0
    assert "left out: it was running" in ran.out
    assert "were not exported" in ran.out


def test_replacing_an_unknown_name_is_an_error(tunesmith: Tunesmith) -> None:
    ran = tunesmith("models", "replace", "ft:old", "ft:new")
    assert ran.code == 1
    assert "ft:old" in ran.err


def test_folder_that_is_no_export_is_told_how_to_make_one(tunesmith: Tunesmith, tmp_path: Path) -> None:
    ran = tunesmith("import", "openai", tmp_path)
    assert ran.code == 1
    assert "examples/export_openai.py" in ran.err
    assert tunesmith("import", "openai", tmp_path / "nowhere").code == 2
