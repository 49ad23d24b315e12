"""Control characters in names, texts and errors reach no terminal; and tables of a narrow one keep their words."""

import pytest
from tests.cli.conftest import Tunesmith
from tests.cli.scripted_server import ScriptedServer
from tests.cli.test_commands import JOBS, job

EVIL = "\x1b[2Jx\x9b31m"
SHOWN = "␛[2Jx⟨U+009B⟩31m"


@pytest.mark.parametrize(
    "command",
    [
        ["jobs", "list"],
        ["jobs", "show", "ftjob-1"],
        ["jobs", "events", "ftjob-1"],
        ["models", "list"],
        ["files", "list"],
        ["files", "show", "file-a"],
        ["jobs", "watch", "ftjob-1"],
    ],
    ids=" ".join,
)
def test_names_and_events_are_shown_without_control_characters(
    run: Tunesmith, script: ScriptedServer, command: list[str]
) -> None:
    evil = job(model=EVIL, fine_tuned_model=f"ft:{EVIL}", status="succeeded", error={"message": EVIL})
    event = {"id": "e1", "created_at": 5, "level": "warn", "message": EVIL}
    file = {"id": "file-a", "status": "error", "status_details": EVIL, "filename": EVIL, "bytes": 1}
    script.answer(f"GET {JOBS}", {"data": [evil]})
    script.answer(f"GET {JOBS}/ftjob-1", evil)
    script.answer(f"GET {JOBS}/ftjob-1/events", {"data": [event]})
    script.answer(f"GET {JOBS}/ftjob-1/checkpoints", {"data": []})
    script.answer("GET /v1/files", {"data": [file]})
    script.answer("GET /v1/files/file-a", file)
    script.answer("GET /v1/models", {"data": [{"id": f"ft:{EVIL}", "created": 5, "owned_by": EVIL}]})
    ran = run(*command)
    assert SHOWN in ran.out
    assert not {"\x1b", "\x9b"} & {*ran.out, *ran.err}


def test_error_and_json_hold_no_raw_control_characters(run: Tunesmith, script: ScriptedServer) -> None:
    script.answer(f"GET {JOBS}/ftjob-1", {"error": {"message": EVIL}}, status=400)
    assert run("jobs", "show", "ftjob-1").err == f"error: {SHOWN}\n"
    script.answer(f"GET {JOBS}", {"data": [job(model=EVIL)]})
    ran = run("jobs", "list", "--json")
    assert ran.json[0]["model"] == EVIL  # type: ignore[index]
    assert not {"\x1b", "\x9b"} & set(ran.out)


@pytest.mark.parametrize("columns", [40, 80])
def test_narrow_terminal_shows_every_word_of_a_list(
    run: Tunesmith, script: ScriptedServer, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.cli.output import terminal

    monkeypatch.setenv("COLUMNS", str(columns))
    terminal.out.cache_clear()
    name = "ft:smollm2-135m-instruct:personal::CxB3"
    jobs = [job(id=f"ftjob-{'x' * 24}{at}", status="succeeded", fine_tuned_model=name) for at in range(2)]
    script.answer(f"GET {JOBS}", {"data": jobs})
    out = run("jobs", "list").out
    terminal.out.cache_clear()
    assert max(map(len, out.splitlines())) <= columns
    for text in ("succeeded", "created", f"ftjob-{'x' * 24}0", f"ftjob-{'x' * 24}1"):
        assert text in out
    if columns == 40:
        assert out.split().count("status") == 2  # a block of lines for each
    else:
        assert out.splitlines()[0].split() == ["job", "status", "created", "model"]
    assert name in out.replace("\n", "").replace(" ", "") or columns == 80


def test_what_is_no_id_at_all_is_no_job(run: Tunesmith, script: ScriptedServer) -> None:
    script.answer(f"GET {JOBS}", {"data": []})
    wrong = {"error": {"message": "Invalid URL (GET /v1/fine_tuning/jobs/a/b)", "code": None}}
    script.answer(f"GET {JOBS}/a%2Fb", wrong, status=404)
    assert run("jobs", "show", "a/b").err == "error: No job is called a/b. `tunesmith jobs list` shows the jobs.\n"


def test_near_job_ids_are_named(run: Tunesmith, script: ScriptedServer) -> None:
    missing = {"error": {"message": "Could not find fine tune: ftjob-2", "code": "fine_tune_not_found"}}
    script.answer(f"GET {JOBS}/ftjob-2", missing, status=404)
    script.answer(f"GET {JOBS}", {"data": [job(), job(id="ftjob-zzzzzzzzzzzz")]})
    for command in ("show", "events", "watch", "cancel", "pause", "resume", "result"):
        ran = run("jobs", command, "ftjob-2")
        assert ran.err.splitlines()[-1] == (
            "error: No job is called ftjob-2. Did you mean ftjob-1? `tunesmith jobs list` shows the jobs."
        )


def test_paused_job_reads_paused(run: Tunesmith, script: ScriptedServer) -> None:
    paused = job(status="queued", tunesmith={"lora_rank": 8, "paused": True})
    script.answer(f"GET {JOBS}", {"data": [paused]})
    script.answer(f"GET {JOBS}/ftjob-1", paused)
    script.answer(f"GET {JOBS}/ftjob-1/checkpoints", {"data": []})
    assert "paused" in run("jobs", "list").out
    shown = run("jobs", "show", "ftjob-1").out
    assert "status         paused" in shown
    assert "paused True" not in shown
    assert "it is paused. Resume it: tunesmith jobs resume ftjob-1" in run("jobs", "result", "ftjob-1").err
    assert run("jobs", "show", "ftjob-1", "--json").json["status"] == "queued"  # type: ignore[index]
