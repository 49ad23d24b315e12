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


def test_unfinished_job_is_left_out_and_not_to_be_trained_again(tunesmith: Tunesmith, tmp_path: Path) -> None:
    job = {"id": "ftjob-running00", "model": "gpt-4o-mini", "created_at": 5, "status": "running"}
    (tmp_path / "jobs.json").write_text(json.dumps([{**job, "training_file": "file-MNu4SQN4hf2nJmWVXyv8qW"}]))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file-MNu4SQN4hf2nJmWVXyv8qW").touch()
    ran = tunesmith("import", "openai", tmp_path)
    assert ran.code == 0
    assert "left out: it was running" in ran.out
    assert "Cannot be trained again as it is: it had not ended when it was exported." in ran.out
    assert "tunesmith train" not in ran.out


OLD = {
    **{"id": "ftjob-first0000", "model": "gpt-4o-mini", "created_at": 5, "status": "succeeded"},
    **{
        "training_file": "file-MNu4SQN4hf2nJmWVXyv8qW",
        "fine_tuned_model": "ft:gpt-4o-mini:acme::a",
        "trained_tokens": 7,
    },
}


def test_what_is_true_of_many_jobs_is_said_once(tunesmith: Tunesmith, tmp_path: Path) -> None:
    others = [{**OLD, "id": f"ftjob-other000{n}", "fine_tuned_model": f"ft:gpt-4o-mini:acme::{n}"} for n in range(9)]
    (tmp_path / "jobs.json").write_text(json.dumps([OLD, *others]))
    out = tunesmith("import", "openai", tmp_path).out
    assert (
        out.count("model: gpt-4o-mini is smollm2-135m-instruct here: other weights give other answers (10 of 10 jobs)")
        == 1
    )
    assert out.count("other weights give other answers") == 1
    assert out.count("trained_tokens: OpenAI's tokenizer counted them") == 1


def test_an_import_that_fails_leaves_nothing_and_can_be_repeated(tunesmith: Tunesmith, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(json.dumps([OLD, {**OLD, "id": "ftjob-second000", "fine_tuned_model": None}]))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file-MNu4SQN4hf2nJmWVXyv8qW").write_bytes(b"{}")
    file = {"id": "file-MNu4SQN4hf2nJmWVXyv8qW", "filename": "a", "purpose": "fine-tune", "created_at": 4}
    (tmp_path / "files.json").write_text(json.dumps([file]))
    (tmp_path / "events").mkdir()
    broken = tmp_path / "events" / "ftjob-first0000.json"
    broken.write_text('[{"id": "x"}]')
    ran = tunesmith("import", "openai", tmp_path)
    assert ran.code == 1
    assert "entry 1: id is 'x'" in ran.err
    broken.unlink()
    report = tunesmith("import", "openai", tmp_path, "--json").json
    assert isinstance(report, dict)
    assert set(report["files"].values()) == {"imported"}  # and not "here already"
    assert [job["outcome"] for job in report["jobs"]] == ["imported", "imported"]


def test_imported_names_are_listed_and_a_replacement_taken_back(tunesmith: Tunesmith, tmp_path: Path) -> None:
    assert "No names are imported" in tunesmith("models", "replacements").err
    (tmp_path / "jobs.json").write_text(json.dumps([OLD]))
    assert tunesmith("import", "openai", tmp_path).code == 0
    assert tunesmith("models", "replacements", "--json").json == {OLD["fine_tuned_model"]: None}
    assert "ft:gpt-4o-mini:acme::a  no model yet" in tunesmith("models", "replacements").out
    undone = tunesmith("models", "replace", OLD["fine_tuned_model"], "--undo")
    assert undone.code == 1
    assert "is not replaced by another one" in undone.err
    assert tunesmith("models", "replace", "ft:x").code == 2


def test_replacing_an_unknown_name_is_an_error(tunesmith: Tunesmith) -> None:
    ran = tunesmith("models", "replace", "ft:old", "ft:new")
    assert ran.code == 1
    assert "ft:old" in ran.err


def test_folder_that_is_no_export_is_told_how_to_make_one(tunesmith: Tunesmith, tmp_path: Path) -> None:
    ran = tunesmith("import", "openai", tmp_path)
    assert ran.code == 1
    assert "examples/export_openai.py" in ran.err
    assert tunesmith("import", "openai", tmp_path / "nowhere").code == 2
