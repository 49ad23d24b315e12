"""`eval`: both sides are asked in turn, and what is printed and written."""

import json
from pathlib import Path
from typing import cast

import pytest
from tests.cli.conftest import Tunesmith
from tests.cli.scripted_server import ScriptedServer

ASK, JOBS = "POST /v1/chat/completions", "GET /v1/fine_tuning/jobs"
TUNED = "ft:base:me::x"
JOB = {
    "id": "ftjob-1",
    "object": "fine_tuning.job",
    "model": "base",
    "status": "succeeded",
    "created_at": 5,
    "fine_tuned_model": TUNED,
    "training_file": "file-1",
    "validation_file": "file-2",
}
ROWS = 12


def model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 5, "owned_by": "me"}


def completion(text: str, fingerprint: str, finish: str = "stop") -> dict[str, object]:
    message = {"role": "assistant", "content": text}
    return {
        "model": "m",
        "system_fingerprint": fingerprint,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }


@pytest.fixture
def rows(script: ScriptedServer, tmp_path: Path) -> Path:
    script.answer(JOBS, {"data": [JOB], "has_more": False})
    script.answer("GET /v1/fine_tuning/jobs/ftjob-1", JOB)
    for name in ("base", TUNED):
        script.answer(f"GET /v1/models/{name}", model(name))
    path = tmp_path / "held-out.jsonl"
    line = json.dumps({"messages": [{"role": "user", "content": "Good? <b>"}, {"role": "assistant", "content": "yes"}]})
    path.write_text(f"{line}\n" * ROWS)
    return path


def script_answers(script: ScriptedServer, after: str = "fp_tuned") -> None:
    for _ in range(ROWS):
        script.answer(ASK, completion("no<i>", "fp_base"), completion("yes", after, "length"))


def test_both_sides_are_asked_and_the_gain_is_told(run: Tunesmith, script: ScriptedServer, rows: Path) -> None:
    script_answers(script)
    page, answers = rows.with_name("report.html"), rows.with_name("answers.json")
    ran = run("eval", "last", "--on", rows, "--concurrency", 1, "--html", page, "-o", answers)
    assert ran.code == 0
    assert ran.out.startswith(f"{TUNED} is better than base\nsame text 0 % -> 100 % on 12 rows (+100, ")
    assert "12 cut at the limit" in ran.out
    assert "Only 12 answers" in ran.err
    asked = [json.loads(body) for body, route in zip(script.bodies, script.asked, strict=True) if route == ASK]
    assert [one["model"] for one in asked] == ["base", TUNED] * ROWS
    assert asked[0]["messages"] == [{"role": "user", "content": "Good? <b>"}]
    assert (asked[0]["temperature"], asked[0]["max_completion_tokens"]) == (0, 512)
    html = page.read_text()
    assert "no&lt;i&gt;" in html
    assert "no<i>" not in html
    assert "fp_base and fp_tuned" in html
    assert json.loads(answers.read_text())["criteria"][0]["table"] == {"both": 0, "gained": 12, "lost": 0, "neither": 0}


def test_the_jobs_validation_file_is_the_default(run: Tunesmith, script: ScriptedServer, rows: Path) -> None:
    script_answers(script)
    script.answer("GET /v1/files/file-2/content", rows.read_bytes())
    ran = run("eval", TUNED, "--json", "--concurrency", 1)
    assert ran.code == 0
    found = json.loads(ran.out)
    assert (found["verdict"], found["before"], found["rows"]) == ("better", "base", ROWS)
    assert "samples" not in found


def test_the_same_weights_on_both_sides_are_an_error(run: Tunesmith, script: ScriptedServer, rows: Path) -> None:
    script_answers(script, after="fp_base")
    ran = run("eval", "ftjob-1", "--on", rows, "--concurrency", 1)
    assert ran.code != 0
    assert "were answered by the same weights (fp_base)" in ran.err


def test_a_busy_server_is_asked_again_and_a_row_too_long_left_out(
    run: Tunesmith, script: ScriptedServer, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.cli.commands.data.asking.FIRST_WAIT", 0.01)
    script.answer(ASK, {"error": {"message": "busy"}}, status=503)
    script.answer(ASK, {"error": {"message": "too long for the model"}}, status=400)
    script_answers(script)
    ran = run("eval", "last", "--on", rows, "--concurrency", 1)
    assert ran.code == 0
    assert "1 question could not be asked; line 1: too long for the model" in ran.err
    assert "on 11 rows" in ran.out


def test_without_held_out_rows_or_a_base_the_command_says_what_to_name(
    run: Tunesmith, script: ScriptedServer, rows: Path
) -> None:
    script.answers[JOBS].clear()
    script.answer(JOBS, {"data": [{**JOB, "validation_file": None}], "has_more": False})
    assert "Name rows that it was not trained on: --on FILE" in run("eval", "last").err
    assert "name the other side: --against MODEL" in run("eval", "ft:other", "--on", rows).err


def test_recorded_answers_are_a_third_side(run: Tunesmith, script: ScriptedServer, rows: Path) -> None:
    script_answers(script)
    old = rows.with_name("old.jsonl")
    answer = {"role": "assistant", "content": "maybe<u>"}
    old.write_text(json.dumps({"messages": [{"content": "Good? <b>", "role": "user", "name": None}, answer]}) + "\n")
    page, answers = rows.with_name("report.html"), rows.with_name("answers.json")
    ran = run(
        *("eval", "last", "--on", rows, "--concurrency", 1, "--against-answers", old, "--html", page, "-o", answers)
    )
    assert ran.code == 0
    assert f"{TUNED} is better than old.jsonl\nsame text 0 % -> 100 % on 12 rows (+100, " in ran.out
    third = json.loads(answers.read_text())["recorded"]
    assert (third["before"], third["verdict"], third["criteria"][0]["table"]["gained"]) == ("old.jsonl", "better", 12)
    html = page.read_text()
    assert html.count("maybe&lt;u&gt;") == 12
    assert "maybe<u>" not in html
    assert "<script" not in html
    assert not [one for one in ("http://", "https://", "@import", "url(") if one in html]


def test_recorded_answers_to_other_questions_are_refused(run: Tunesmith, script: ScriptedServer, rows: Path) -> None:
    script_answers(script)
    old = rows.with_name("old.jsonl")
    old.write_text(
        json.dumps({"messages": [{"role": "user", "content": "Bad?"}, {"role": "assistant", "content": "x"}]})
    )
    ran = run("eval", "last", "--on", rows, "--concurrency", 1, "--against-answers", old)
    assert ran.code != 0
    assert "old.jsonl answers none of the 12 questions" in ran.err


def test_general_questions_are_asked_on_request(run: Tunesmith, script: ScriptedServer, rows: Path) -> None:
    script_answers(script)
    for _ in range(ROWS):
        script.answer(ASK, completion("7 Paris", "fp_base"), completion("?", "fp_tuned"))
    ran = run("eval", "last", "--on", rows, "--concurrency", 1, "--rows", ROWS, "--forgetting", "--json")
    assert ran.code == 0
    asked = [json.loads(body) for body, route in zip(script.bodies, script.asked, strict=True) if route == ASK]
    assert (len(asked), asked[-1]["max_completion_tokens"]) == (4 * ROWS, 32)
    found = json.loads(ran.out)
    assert (found["forgetting"]["rows"], found["forgetting"]["after"]) == (ROWS, 0.0)
    assert found["sentences"][-1].startswith("general questions ")


def script_four_ways(script: ScriptedServer) -> dict[str, object]:
    """The tuned model is right with its own prompt only; the row that is shown to the base."""
    trained: dict[str, object] = {
        "messages": [{"role": "user", "content": "Bad?"}, {"role": "assistant", "content": "no"}]
    }
    script.answer("GET /v1/files/file-1/content", json.dumps(trained).encode())
    for _ in range(ROWS):
        texts = ("no", "fp_base"), ("no", "fp_base"), ("no", "fp_tuned"), ("yes", "fp_tuned")
        script.answer(ASK, *(completion(*one) for one in texts))
    return trained


@pytest.fixture
def long(tmp_path: Path) -> Path:
    path = tmp_path / "long.txt"
    path.write_text("Always answer yes or no.\n")
    return path


def test_four_ways_to_prompt_are_compared(run: Tunesmith, script: ScriptedServer, rows: Path, long: Path) -> None:
    trained = script_four_ways(script)
    ran = run("eval", "last", "--on", rows, "--concurrency", 1, "--prompts", long, "--json")
    assert ran.code == 0
    ways = json.loads(ran.out)["ways"]
    assert [(one["model"], one["score"]["value"]) for one in ways] == [("base", 0), ("base", 0), (TUNED, 0), (TUNED, 1)]
    assert ways[3]["against_first"].startswith("same text 0 % -> 100 % on 12 rows")
    assert ways[3]["against_long"].startswith("same text 0 % -> 100 % on 12 rows")
    assert [one["criterion"] for one in ways] == ["same text"] * 4
    asked = [json.loads(body) for body, route in zip(script.bodies, script.asked, strict=True) if route == ASK]
    user = {"role": "user", "content": "Good? <b>"}
    assert [one["messages"] for one in asked[:4]] == [
        [{"role": "system", "content": "Always answer yes or no."}, user],
        [*cast("list[object]", trained["messages"]), user],
        [{"role": "system", "content": "Always answer yes or no."}, user],
        [user],
    ]


@pytest.mark.parametrize(
    ("price", "of_base", "of_tuned"),
    [
        ("gpt-3.5-turbo", 7 * 0.5 + 3 * 1.5, 7 * 3 + 3 * 6),
        ("gpt-3.5-turbo@2023", 7 * 12 + 3 * 16, 7 * 12 + 3 * 16),  # the base's is not in that table
    ],
)
def test_the_base_costs_what_a_base_does(
    run: Tunesmith, script: ScriptedServer, rows: Path, long: Path, price: str, of_base: float, of_tuned: float
) -> None:
    script_four_ways(script)
    ran = run("eval", "last", "--on", rows, "--concurrency", 1, "--prompts", long, "--json", "--price", price)
    costs = [one["dollars_per_1000_calls"] for one in json.loads(ran.out)["ways"]]
    assert costs == pytest.approx([of_base / 1000, of_base / 1000, of_tuned / 1000, of_tuned / 1000])


def test_the_table_names_what_is_measured_and_an_unknown_price(
    run: Tunesmith, script: ScriptedServer, rows: Path, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_four_ways(script)
    prices = rows.with_name("prices.toml")
    prices.write_text("[models.house]\ninput = 2.0\n")
    monkeypatch.setenv("TUNESMITH_PRICE_FILE", str(prices))
    answers = rows.with_name("answers.json")
    args = ("eval", "last", "--on", rows, "--concurrency", 1, "--prompts", long, "--price", "house", "-o", answers)
    ran = run(*args)
    assert ran.code == 0
    title, *table = ran.out.splitlines()
    assert "same text" in title
    assert "right" not in title
    assert [line.endswith("not known") for line in table[:6]].count(True) == 4
    assert "tuned, long prompt -> tuned, short prompt: same text 0 % -> 100 % on 12 rows" in ran.out
    written = json.loads(answers.read_text())["rows"]
    assert len(written) == ROWS
    assert {way: one["text"] for way, one in written[0]["answers"].items()} == {
        "base, long prompt": "no",
        "base, examples": "no",
        "tuned, long prompt": "no",
        "tuned, short prompt": "yes",
    }


def test_costs_are_told_apart(run: Tunesmith, script: ScriptedServer, rows: Path, long: Path) -> None:
    script_four_ways(script)
    ran = run("eval", "last", "--on", rows, "--concurrency", 1, "--prompts", long, "--price", "gpt-4o-mini")
    costs = [line.split()[-1] for line in ran.out.splitlines()[1:5]]
    assert costs == ["$0.00285", "$0.00285", "$0.00570", "$0.00570"]  # 7 and 3 tokens at 0.15 and 0.60; at 0.30, 1.20


def test_options_without_use_are_refused(run: Tunesmith, script: ScriptedServer, rows: Path, long: Path) -> None:
    ran = run("eval", "last", "--on", rows, "--prompts", long, "--html", rows.with_name("x.html"), "--forgetting")
    assert (ran.code, script.asked) == (2, [])
    assert "--forgetting, --html: not with --prompts" in ran.err
    ran = run("eval", "last", "--on", rows, "--price", "gpt-4o-mini")
    assert (ran.code, script.asked) == (2, [])
    assert "--price is for --prompts LONG.txt" in ran.err


def test_a_prompt_that_cannot_be_read_is_refused(run: Tunesmith, script: ScriptedServer, rows: Path) -> None:
    empty = rows.with_name("empty.txt")
    empty.write_text(" ")
    assert "it needs the long prompt, as text" in run("eval", "last", "--on", rows, "--prompts", empty).err
    assert "cannot be read as a prompt" in run("eval", "last", "--prompts", rows.with_name("none.txt")).err


def test_checkpoints_are_compared_and_the_best_is_named(run: Tunesmith, script: ScriptedServer, rows: Path) -> None:
    names = [f"{TUNED}:ckpt-step-4", TUNED]
    kept = [
        {"id": f"ftckpt_{step}", "created_at": 5, "fine_tuned_model_checkpoint": name, "step_number": step}
        for name, step in ((TUNED, 8), (names[0], 4), ("ft:deleted", 2))
    ]
    script.answer("GET /v1/fine_tuning/jobs/ftjob-1/checkpoints", {"data": kept, "has_more": False})
    script.answer("GET /v1/models", {"data": [model(name) for name in ("base", *names)], "has_more": False})
    script.answer(ASK, {"error": {"message": "too long for the model"}}, status=400)
    for _ in range(ROWS - 1):
        script.answer(ASK, completion("no", "fp_base"), completion("yes", "fp_last"), completion("yes, yes", "fp_4"))
    answers = rows.with_name("answers.json")
    ran = run("eval", "ftjob-1", "--checkpoints", "--on", rows, "--concurrency", 1, "-o", answers)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"Best of 2 checkpoints: {TUNED} (step 8), same text 0 % -> 100 % on 11 rows (+100, ")
    assert "Against the next best (step 4): same text 0 % -> 100 % on 11 rows" in ran.out
    assert "p is corrected for all criteria of all checkpoints (Holm)." in ran.out
    assert "1 question could not be asked; line 1: too long for the model" in ran.err
    asked = [json.loads(body) for body, route in zip(script.bodies, script.asked, strict=True) if route == ASK]
    assert [one["model"] for one in asked] == ["base", *(["base", TUNED, names[0]] * (ROWS - 1))]
    found = json.loads(answers.read_text())
    assert [one["step"] for one in found["checkpoints"]] == [4, 8]
    assert found["best"] == TUNED


def test_checkpoints_that_are_gone_are_told_and_other_questions_refused(
    run: Tunesmith, script: ScriptedServer, rows: Path
) -> None:
    script.answer("GET /v1/fine_tuning/jobs/ftjob-1/checkpoints", {"data": [], "has_more": False})
    script.answer("GET /v1/models", {"data": [model("base")], "has_more": False})
    assert "Job ftjob-1 has no checkpoints any more" in run("eval", "ftjob-1", "--checkpoints", "--on", rows).err
    refused = run("eval", "ftjob-1", "--checkpoints", "--html", rows.with_name("page.html"))
    assert "--html does not go with --checkpoints" in refused.err
