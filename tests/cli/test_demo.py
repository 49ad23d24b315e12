"""The demo's steps, on a server with scripted answers; tests/acceptance runs the whole demo for real."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from tests.cli.conftest import JOKES, Tunesmith
from tests.cli.scripted_server import ScriptedServer, scripted

from tunesmith.cli.commands import demo
from tunesmith.cli.configure import load_settings
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.client import Client, Job

JOB = {"id": "ftjob-1", "model": "m", "status": "running", "created_at": 5, "training_file": "file-1"}
ROUTE = "/v1/fine_tuning/jobs"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings that a test loads write into the environment; this takes it back."""
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def scripted_client() -> Iterator[tuple[ScriptedServer, Client]]:
    with scripted() as script:
        script.answer("POST /v1/files", {"id": "file-1", "status": "processed", "filename": "f", "bytes": 1})
        script.answer(f"POST {ROUTE}", JOB)
        script.answer(f"GET {ROUTE}/ftjob-1/events", {"data": []})
        client = Client(script.base_url, "key")
        yield script, client
        client.close()


def test_rows_of_the_demo_are_shipped_and_ask_other_questions() -> None:
    file = demo._shipped_dataset()
    assert file.resolve() == JOKES
    rows = JOKES.read_text("utf-8")
    assert [question for _, question in demo.QUESTIONS if question in rows] == []


def test_faulty_file_ends_the_demo_before_a_server_starts(tunesmith: Tunesmith, tmp_path: Path, base_dir: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(JOKES.read_text("utf-8").partition("\n")[0] + "\n")
    ran = tunesmith("demo", "--file", tmp_path / "rows.jsonl", "--data-dir", tmp_path / "demo")
    assert ran.code == 1
    assert "1 error" in ran.out
    assert "Estimate the job" not in ran.out
    assert ran.err.endswith(f"error: {tmp_path / 'rows.jsonl'} cannot be trained on.\n")
    assert not (tmp_path / "demo" / "server.log").exists()
    missing = tunesmith("demo", "--file", "nowhere.jsonl")
    assert missing.code == 2


def test_demo_trains_repeatably_under_its_own_name(
    scripted_client: tuple[ScriptedServer, Client], tmp_path: Path
) -> None:
    script, client = scripted_client
    done = {**JOB, "status": "succeeded", "fine_tuned_model": "ft:m:::1", "finished_at": 6}
    script.answer(f"GET {ROUTE}/ftjob-1", done)
    job = demo._train(client, JOKES, load_settings(tmp_path))
    assert job.fine_tuned_model == "ft:m:::1"
    sent = json.loads(script.bodies[script.asked.index(f"POST {ROUTE}")])
    assert sent == {"model": "smollm2-135m-instruct", "training_file": "file-1", "suffix": "weather", "seed": 1}


def test_failed_job_ends_the_demo(scripted_client: tuple[ScriptedServer, Client], tmp_path: Path) -> None:
    script, client = scripted_client
    script.answer(f"GET {ROUTE}/ftjob-1", {**JOB, "status": "failed", "error": {"message": "no memory"}})
    with pytest.raises(CommandError, match="no memory") as raised:
        demo._train(client, JOKES, load_settings(tmp_path))
    assert raised.value.exit_code == Exit.JOB_FAILED


def test_interrupt_cancels_the_demos_job(
    scripted_client: tuple[ScriptedServer, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    script, client = scripted_client
    script.answer(f"GET {ROUTE}/ftjob-1", JOB)
    script.answer(f"POST {ROUTE}/ftjob-1/cancel", {**JOB, "status": "cancelled"})
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(typer.Exit) as ended:
        demo._train(client, JOKES, load_settings(tmp_path))
    assert ended.value.exit_code == Exit.INTERRUPTED
    assert script.asked[-1] == f"POST {ROUTE}/ftjob-1/cancel"


def test_both_models_are_asked_the_same_at_temperature_0(
    scripted_client: tuple[ScriptedServer, Client], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script, client = scripted_client
    texts = ("plain one", "[tuned] one", "plain two", "tuned :fire: two")
    chunks = [{"choices": [{"index": 0, "delta": {"content": f" {text}\n"}}]} for text in texts]
    script.answer("POST /v1/chat/completions", *(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks))
    demo._compare(client, Job.read({**JOB, "fine_tuned_model": "ft:m:::1"}), load_settings(tmp_path))
    shown = capfd.readouterr().out
    assert [text in shown for text in texts] == [True] * 4
    bodies = [json.loads(body) for body in script.bodies]
    assert [body["model"] for body in bodies] == ["smollm2-135m-instruct", "ft:m:::1"] * 2
    assert {body["temperature"] for body in bodies} == {0}
    assert bodies[0]["messages"] == bodies[1]["messages"] != bodies[2]["messages"]


@pytest.mark.parametrize("stopped", [True, False])
def test_last_words_can_be_typed_and_name_the_data_directory(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], stopped: bool
) -> None:
    settings = load_settings(tmp_path / "demo")
    demo._next_steps(Job.read({**JOB, "fine_tuned_model": "ft:m:::1"}), settings, '"Be brief."', stopped=stopped)
    said = capfd.readouterr()
    assert '(it sends the training file\'s system message: "Be brief.")\n' in said.out
    assert f"tunesmith chat ft:m:::1 --data-dir {tmp_path / 'demo'}\n" in said.out
    assert f"tunesmith serve --data-dir {tmp_path / 'demo'} " in said.out
    assert ("The server is stopped." in said.err) == stopped
    assert f"is in {tmp_path / 'demo'}." in said.err
