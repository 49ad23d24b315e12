"""`files …`, and what `train` leaves on the server when it is refused."""

import json
import time
from pathlib import Path

import pytest
from tests.cli.conftest import JOKES, Server, Tunesmith
from tests.cli.scripted_server import ScriptedServer
from tests.cli.test_commands import JOBS, NO_FILE, job

DAYS_AGO = int(time.time()) - 5 * 86_400
NO_SUCH_FILE = {"error": {"message": "No such File object: file-abd", "param": "id", "code": None}}


def file(name: str, **values: object) -> dict[str, object]:
    fields = {"object": "file", "id": name, "purpose": "fine-tune", "filename": f"{name}.jsonl", "bytes": 1500}
    return {**fields, "created_at": DAYS_AGO, "status": "processed", "status_details": None, **values}


def test_list_has_size_status_purpose_and_the_jobs_of_each_file(run: Tunesmith, script: ScriptedServer) -> None:
    result = file("file-r", purpose="fine-tune-results", filename="step [x].csv", bytes=900)
    faulty = file("file-e", status="error", status_details="line 3: no.")
    script.answer("GET /v1/files", {"data": [file("file-a"), result, faulty, file("file-u")]})
    used = [job(id="ftjob-2", training_file="file-a", result_files=["file-r"]), job(training_file="file-a")]
    script.answer(f"GET {JOBS}", {"data": used})
    lines = [line.split() for line in run("files", "list").out.splitlines()]
    assert lines[0] == ["file", "size", "status", "purpose", "created", "name", "jobs"]
    day, more = time.strftime("%Y-%m-%d", time.localtime(DAYS_AGO)), ["ftjob-2", "and", "1", "more"]
    assert lines[1] == ["file-a", "1.5", "kB", "processed", "fine-tune", day, "file-a.jsonl", *more]
    assert lines[2] == ["file-r", "900", "B", "processed", "fine-tune-results", day, "step", "[x].csv", "ftjob-2"]
    assert lines[3] == ["file-e", "1.5", "kB", "error", "fine-tune", day, "file-e.jsonl", "-"]
    assert lines[4][-1] == "-"
    assert run("files", "list", "--json").json == [file("file-a"), result, faulty, file("file-u")]


def test_list_names_the_next_page(run: Tunesmith, script: ScriptedServer) -> None:
    script.answer("GET /v1/files", {"data": [file("file-c"), file("file-b"), file("file-a")], "has_more": False})
    script.answer(f"GET {JOBS}", {"data": []})
    ran = run("files", "list", "--limit", 2, "--purpose", "fine-tune", "--after", "file-d")
    assert script.asked[1] == "GET /v1/files?limit=3&after=file-d&purpose=fine-tune"
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == ["file-c", "file-b"]
    assert ran.err == "More: tunesmith files list --limit 2 --after file-b\n"


def test_empty_list_says_how_to_upload(run: Tunesmith, script: ScriptedServer) -> None:
    script.answer("GET /v1/files", {"data": []})
    ran = run("files", "list")
    assert (ran.out, "tunesmith train FILE" in ran.err) == ("", True)
    assert run("files", "list", "--json").json == []


def test_show_has_the_files_facts_and_its_jobs(run: Tunesmith, script: ScriptedServer) -> None:
    script.answer("GET /v1/files/file-a", file("file-a", expires_at=2_000_000_000))
    script.answer(f"GET {JOBS}", {"data": [job(validation_file="file-a"), job(id="ftjob-9")]})
    out = run("files", "show", "file-a").out
    for text in ("file-a.jsonl", "1.5 kB", "fine-tune", "processed", "2033-05-1", "ftjob-1"):
        assert text in out
    assert "ftjob-9" not in out
    assert run("files", "show", "file-a", "--json").json == file("file-a", expires_at=2_000_000_000)


def test_download_prints_or_writes_the_bytes(run: Tunesmith, script: ScriptedServer, tmp_path: Path) -> None:
    script.answer("GET /v1/files/file-a", file("file-a"))
    script.answer("GET /v1/files/file-a/content", '{"a": "ü"}\n'.encode())
    assert run("files", "download", "file-a").out == '{"a": "ü"}\n'
    ran = run("files", "download", "file-a", "-o", tmp_path / "copy.jsonl")
    assert (ran.out, ran.err) == ("", f"1.5 kB in {tmp_path / 'copy.jsonl'}\n")
    assert (tmp_path / "copy.jsonl").read_text("utf-8") == '{"a": "ü"}\n'


def test_delete_needs_a_yes_and_deletes(run: Tunesmith, script: ScriptedServer) -> None:
    script.answer("DELETE /v1/files/file-a", {"deleted": True})
    assert "Add --yes" in run("files", "delete", "file-a").err
    assert script.asked == []
    assert run("files", "delete", "file-a", "--yes").out == "file-a is deleted.\n"
    assert script.asked[-1] == "DELETE /v1/files/file-a"


@pytest.mark.parametrize("command", [["show"], ["download"], ["delete", "--yes"]], ids=["show", "download", "delete"])
def test_unknown_file_names_near_ones_and_the_list(
    run: Tunesmith, script: ScriptedServer, command: list[str], tmp_path: Path
) -> None:
    for route in ("GET /v1/files/file-abd", "GET /v1/files/file-abd/content", "DELETE /v1/files/file-abd"):
        script.answer(route, NO_SUCH_FILE, status=404)
    script.answer("GET /v1/files", {"data": [file("file-abc"), file("file-zzzzzzzz")]})
    ran = run("files", *command, "file-abd")
    assert ran.code == 1
    assert ran.err == (
        "error: No file is called file-abd. Did you mean file-abc? `tunesmith files list` shows the files.\n"
    )


def test_path_instead_of_an_id_is_explained(run: Tunesmith) -> None:
    ran = run("files", "show", JOKES)
    assert ran.code == 2
    assert "is a file on this machine" in ran.err


def test_refused_job_deletes_what_was_uploaded(run: Tunesmith, script: ScriptedServer) -> None:
    done = {"status": "processed", "filename": "f", "bytes": 1}
    script.answer("POST /v1/files", {"id": "file-a", **done}, {"id": "file-b", **done})
    script.answer(f"POST {JOBS}", NO_FILE, {"error": {"message": "The queue is full.", "param": None}}, status=400)
    script.answer("DELETE /v1/files/file-a", {})  # file-b is gone already, which does not matter
    ran = run("train", JOKES, "--validation", JOKES)
    assert (ran.code, ran.err) == (1, "error: The queue is full.\n")
    assert script.asked[-2:] == ["DELETE /v1/files/file-a", "DELETE /v1/files/file-b"]


def test_a_refused_file_is_named_by_its_name(run: Tunesmith, script: ScriptedServer) -> None:
    """Nobody has seen its id, and it is deleted again."""
    script.answer("POST /v1/files", {"id": "file-a", "status": "processed", "filename": "f", "bytes": 1})
    refusal = {"message": "invalid training_file: file-a holds chat rows.", "param": "training_file"}
    script.answer(f"POST {JOBS}", NO_FILE, {"error": refusal}, status=400)
    script.answer("DELETE /v1/files/file-a", {})
    assert run("train", JOKES).err == f"error: invalid training_file: {JOKES} holds chat rows.\n"


def test_wrong_request_is_refused_before_the_upload(run: Tunesmith, script: ScriptedServer) -> None:
    script.answer(f"POST {JOBS}", {"error": {"message": "Epochs: 0.", "param": "n_epochs"}}, status=400)
    assert run("train", JOKES, "--epochs", 0).err == "error: Epochs: 0.\n"
    assert "POST /v1/files" not in script.asked
    sent = json.loads(script.bodies[-1])
    assert sent["training_file"] == f"file-{'0' * 24}"


def test_unknown_base_names_near_ones(run: Tunesmith, script: ScriptedServer) -> None:
    words = "Model gpt-4p is not available for fine-tuning or does not exist."
    script.answer(f"POST {JOBS}", {"error": {"message": words, "code": "model_not_available"}}, status=400)
    script.answer("GET /v1/models", {"data": [{"id": "gpt-4o", "created": 1, "owned_by": "x"}]})
    ran = run("train", JOKES, "--model", "gpt-4p")
    assert ran.err == f"error: {words} Did you mean gpt-4o? See: tunesmith models list\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "gpt-17"], "Model gpt-17 is not available"),
        (["--epochs", "0"], "error: --epochs: 0 is less than the minimum of 1\n"),
        (["--suffix", "x" * 65], "65 characters"),
        (["--lora-rank", "0"], "error: --lora-rank: 0 is not possible: give a whole number from 1 to 512"),
        (["--method", "dpo"], "dpo"),
        (
            ["--lora-targets", "foo"],
            "'foo', but the blocks of smollm2-135m-instruct have no such layer. They have:",
        ),
        (
            ["--quantization", "int2"],
            "error: --quantization: 'int2' is not possible: give 'none', 'nf4', 'int8' or 'int4'\n",
        ),
        (["--adapter", "none", "--lora-rank", "8"], "error: --lora-rank is for LoRA, but this job's adapter is 'none'"),
    ],
)
def test_refused_training_leaves_no_file_on_a_real_server(
    tunesmith: Tunesmith, server: Server, options: list[str], words: str
) -> None:
    place = ("--data-dir", server.data_dir)
    before = tunesmith("files", "list", "--json", *place).json
    ran = tunesmith("train", JOKES, *options, *place)
    assert ran.code == 1
    assert words in ran.err
    assert tunesmith("files", "list", "--json", *place).json == before


def test_empty_file_and_unknown_validation_file_are_refused_here(
    tunesmith: Tunesmith, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").touch()
    posts = server.log.read_text("utf-8").count("POST")
    place = ("--data-dir", server.data_dir)
    assert "empty" in tunesmith("train", tmp_path / "empty.jsonl", *place).err
    assert tunesmith("train", JOKES, "--validation", tmp_path / "none.jsonl", *place).code == 2
    assert server.log.read_text("utf-8").count("POST") == posts


def test_files_of_a_real_job_are_listed_downloaded_and_deleted(
    tunesmith: Tunesmith, server: Server, trained: str
) -> None:
    place = ("--data-dir", server.data_dir)
    found = tunesmith("jobs", "show", trained, "--json", *place).json
    assert isinstance(found, dict)
    listed = tunesmith("files", "list", *place).out
    assert {found["training_file"], found["result_files"][0]} <= set(listed.split())
    assert tunesmith("files", "download", found["training_file"], *place).out == JOKES.read_text("utf-8")
    assert trained in tunesmith("files", "show", found["validation_file"], *place).out
    assert tunesmith("files", "delete", found["validation_file"], "--yes", *place).code == 0
    assert tunesmith("files", "show", found["validation_file"], *place).code == 1
