"""What commands send and show, on a server that answers what the test wants."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import JOKES, Ran
from tests.cli.scripted_server import ScriptedServer

Run = Callable[..., Ran]
JOBS = "/v1/fine_tuning/jobs"
NO_FILE = {"error": {"message": "invalid training_file: file-0 (there is no such file)", "param": "training_file"}}


def job(**values: object) -> dict[str, object]:
    fields = {"id": "ftjob-1", "model": "base", "status": "running", "created_at": int(time.time()) - 65}
    return {**fields, "training_file": "file-1", **values}


def sent(script: ScriptedServer, route: str) -> dict[str, object]:
    """The last JSON body sent to the route."""
    bodies = [body for asked, body in zip(script.asked, script.bodies, strict=True) if asked == route]
    found = json.loads(bodies[-1])
    assert isinstance(found, dict)
    return found


def accept_uploads(script: ScriptedServer) -> None:
    file = {"status": "processed", "filename": "f", "bytes": 1}
    script.answer("POST /v1/files", {"id": "file-a", **file}, {"id": "file-b", **file})
    script.answer(f"POST {JOBS}", NO_FILE, status=400)
    script.answer(f"POST {JOBS}", job(status="queued"))


def test_train_sends_only_what_was_given(run: Run, script: ScriptedServer) -> None:
    accept_uploads(script)
    ran = run("train", JOKES, "--detach")
    assert (ran.code, ran.out) == (0, "ftjob-1\n")
    assert "Watch it: tunesmith jobs watch ftjob-1" in ran.err
    assert sent(script, f"POST {JOBS}") == {
        "model": "smollm2-135m-instruct",
        "suffix": None,
        "seed": None,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {}}},
        "tunesmith": {},
        "training_file": "file-a",
    }


def test_train_warns_of_a_rate_in_the_place_of_the_multiplier(run: Run, script: ScriptedServer) -> None:
    accept_uploads(script)
    warning = "warning: learning_rate_multiplier 0.0001 gives a learning rate of"
    ran = run("train", JOKES, "--lr-multiplier", 0.0001, "--base-learning-rate", 0.0002, "--detach", "--json")
    assert f"{warning} 2e-08 (0.0001 x the base rate 0.0002)" in ran.err
    assert sent_job(script) == ran.json
    accept_uploads(script)
    assert "warning" not in run("train", JOKES, "--lr-multiplier", 0.1, "--detach", "--json").err


@pytest.mark.parametrize("command", ["check", "estimate", "train"])
def test_every_command_that_takes_a_multiplier_warns_and_refuses_alike(tunesmith: Run, command: str) -> None:
    for multiplier in ("0", "1001"):
        ran = tunesmith(command, JOKES, "--lr-multiplier", multiplier)
        said = f"learning_rate_multiplier is {float(multiplier)}; give a number above 0, at most 1000, or 'auto'."
        assert (ran.code, ran.out, ran.err.splitlines()[-1]) == (2, "", f"error: {said}")  # above it: what takes time
    if command != "train":  # needs a server; see above
        ran = tunesmith(command, JOKES, "--lr-multiplier", 0.0001)
        assert "warning: learning_rate_multiplier 0.0001 gives a learning rate of 2.5e-08" in ran.err
        assert "give 0.4; 'auto' is 2." in ran.err
        assert "warning: learning" not in tunesmith(command, JOKES, "--lr-multiplier", 0.4).err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", JOKES, "--beta", 0.1), "--beta is for --method dpo; leave it out, or give that method."),
        (("estimate", JOKES, "--adapter", "none", "--lora-rank", 4), "--lora-rank is for --adapter lora, but all"),
        (("check", JOKES, "--html", "/nowhere/a.html"), "There is no directory /nowhere to write a.html into. Make it"),
        (("fix", JOKES, "--output", "/nowhere/a.jsonl"), "There is no directory /nowhere to write a.jsonl into."),
        (("fix", JOKES, "--output", "/"), "/ is a directory; name the file to write in it."),
        (("jobs", "result", "last", "-o", "/nowhere/a.csv"), "There is no directory /nowhere to write a.csv into."),
        (("files", "download", "file-a", "-o", "/nowhere/a"), "There is no directory /nowhere to write a into."),
        (
            ("replay", JOKES, "--teacher", "t", "--upstream", "http://127.0.0.1:9/v1", "-o", "/nowhere/a"),
            "There is no directory /nowhere to write a into.",
        ),
    ],
    ids=["beta", "rank", "html", "fix", "fix into", "result", "download", "replay"],
)
def test_what_cannot_work_is_refused_before_the_work(tunesmith: Run, arguments: tuple[object, ...], said: str) -> None:
    ran = tunesmith(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {said}")


def test_estimate_shows_the_rate_of_the_multiplier(tunesmith: Run, base_dir: Path) -> None:
    assert "0.4 x the base rate (= 1e-4)" in tunesmith("estimate", JOKES, "--lr-multiplier", 0.4).out


def test_estimate_counts_the_rows_that_a_verdict_takes(tunesmith: Run, base_dir: Path) -> None:
    ran = tunesmith("estimate", JOKES, "--evaluate")
    assert "(3 more are held out for the verdict)" in ran.out
    assert "The verdict is to be made on 3 rows: that is too few to tell" in " ".join(ran.err.split())
    found = tunesmith("estimate", JOKES, "--evaluate", "--json").json
    assert isinstance(found, dict)
    assert (found["examples"], found["held_out"]) == (9, 3)


def test_train_sends_every_option_under_its_wire_name(run: Run, script: ScriptedServer) -> None:
    accept_uploads(script)
    hyperparameters = ("--epochs", 3, "--batch-size", 4, "--lr-multiplier", 0.5)
    adapter = ("--adapter", "lora", "--lora-rank", 8, "--lora-alpha", 16, "--lora-dropout", 0.1)
    rest = ("--lora-targets", "attention", "--quantization", "none", "--base-learning-rate", 2e-4)
    course = ("--schedule", "cosine", "--warmup-ratio", 0.1, "--weight-decay", 0.01, "--max-grad-norm", 0)
    names = ("--model", "gpt-4o-mini", "--suffix", "jokes", "--seed", 0, "--validation", JOKES)
    ran = run("train", JOKES, *hyperparameters, *adapter, *rest, *course, *names, "--detach", "--json")
    assert ran.json == sent_job(script)
    assert sent(script, f"POST {JOBS}") == {
        "model": "gpt-4o-mini",
        "suffix": "jokes",
        "seed": 0,
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 0.5}},
        },
        "tunesmith": {
            "adapter": "lora",
            "lora_rank": 8,
            "lora_alpha": 16.0,
            "lora_dropout": 0.1,
            "lora_targets": "attention",
            "quantization": "none",
            "base_learning_rate": 2e-4,
            "schedule": "cosine",
            "warmup_ratio": 0.1,
            "weight_decay": 0.01,
            "max_grad_norm": 0.0,
        },
        "training_file": "file-a",
        "validation_file": "file-b",
    }


@pytest.mark.parametrize(("option", "sent_as"), [("--evaluate", True), ("--no-evaluate", False)])
def test_train_asks_for_a_verdict(run: Run, script: ScriptedServer, option: str, sent_as: bool) -> None:
    accept_uploads(script)
    run("train", JOKES, option, "--detach")
    body = sent(script, f"POST {JOBS}")
    assert isinstance(body, dict)
    assert body["tunesmith"] == {"evaluate": sent_as}


def test_a_finished_job_shows_its_verdict(run: Run, script: ScriptedServer) -> None:
    verdict = "same text 0 % -> 100 % on 40 rows (+100, 95 % interval +100 to +100): better"
    ended = job(
        status="succeeded",
        finished_at=9,
        fine_tuned_model="ft:m:::1",
        trained_tokens=7,
        result_files=["file-m", "file-e"],
        tunesmith={"evaluation": {"verdict": "better", "sentence": verdict, "file": "file-e"}},
    )
    for _ in range(3):
        script.answer(f"GET {JOBS}/ftjob-1", ended)
    for more in ("events", "checkpoints"):
        script.answer(f"GET {JOBS}/ftjob-1/{more}", {"data": [], "has_more": False})
    assert verdict in " ".join(run("jobs", "watch", "ftjob-1").out.split())
    assert verdict in " ".join(run("jobs", "show", "ftjob-1").out.split())
    script.answer("GET /v1/files/file-e/content", b'{"verdict": "better"}')
    assert run("jobs", "result", "ftjob-1", "--evaluation").out == '{"verdict": "better"}'


def test_a_job_without_an_evaluation_says_how_to_compare_it(run: Run, script: ScriptedServer) -> None:
    script.answer(f"GET {JOBS}/ftjob-1", job(status="succeeded", result_files=["file-m"], fine_tuned_model="ft:m:::1"))
    ran = run("jobs", "result", "ftjob-1", "--evaluation")
    assert ran.code != 0
    assert "was not evaluated; compare it now: tunesmith eval ftjob-1 --on FILE" in ran.err


def sent_job(script: ScriptedServer) -> object:
    return json.loads(script.answers[f"POST {JOBS}"][-1][1])


def test_train_by_dpo_names_the_method_and_its_beta(run: Run, script: ScriptedServer, tmp_path: Path) -> None:
    accept_uploads(script)
    answers = {f"{kind}_output": [{"role": "assistant", "content": kind}] for kind in ("preferred", "non_preferred")}
    rows = [{"input": {"messages": [{"role": "user", "content": f"q{number}"}]}, **answers} for number in range(10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run("train", tmp_path / "pairs.jsonl", "--method", "dpo", "--beta", 0.2, "--detach").code == 0
    assert sent(script, f"POST {JOBS}")["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}


def test_file_that_the_server_refuses_makes_no_job(run: Run, script: ScriptedServer) -> None:
    refused = {"id": "file-a", "status": "error", "status_details": "line 3: no.", "filename": "f", "bytes": 1}
    script.answer(f"POST {JOBS}", NO_FILE, status=400)
    script.answer("POST /v1/files", refused)
    script.answer("DELETE /v1/files/file-a", {"deleted": True})
    ran = run("train", JOKES)
    assert ran.code == 1
    assert ran.err == f"error: The server refuses {JOKES}: line 3: no.\n"
    assert script.asked[-3:] == [f"POST {JOBS}", "POST /v1/files", "DELETE /v1/files/file-a"]


def test_jobs_list_has_a_line_for_each_and_names_the_base_until_there_is_a_model(
    run: Run, script: ScriptedServer
) -> None:
    done = job(id="ftjob-2", status="succeeded", fine_tuned_model="ft:base::x")
    script.answer(f"GET {JOBS}", {"data": [job(), done]})
    lines = [line.split() for line in run("jobs", "list", "--limit", 2).out.splitlines()]
    assert lines[0] == ["job", "status", "created", "model"]
    assert [lines[1][0], lines[1][1], lines[1][-1]] == ["ftjob-1", "running", "(base)"]
    assert [lines[2][0], lines[2][1], lines[2][-1]] == ["ftjob-2", "succeeded", "ft:base::x"]
    assert script.asked[-1] == f"GET {JOBS}?limit=2"


def test_no_jobs_says_how_to_start_one(run: Run, script: ScriptedServer) -> None:
    script.answer(f"GET {JOBS}", {"data": []})
    ran = run("jobs", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "tunesmith train FILE" in ran.err
    assert run("jobs", "list", "--json").json == []
    last = run("jobs", "show", "last")
    assert last.code == 1
    assert "There are no jobs yet" in last.err


def test_show_of_a_running_job_has_time_left_and_no_result(run: Run, script: ScriptedServer) -> None:
    running = job(hyperparameters={"n_epochs": 3, "batch_size": "auto"}, estimated_finish=int(time.time()) + 600)
    script.answer(f"GET {JOBS}/ftjob-1", running)
    script.answer(f"GET {JOBS}/ftjob-1/checkpoints", {"data": []})
    out = run("jobs", "show", "ftjob-1").out
    for text in ("running", "none yet", "n_epochs 3, batch_size auto", "time left", "about 10m00s", "1m05s ago"):
        assert text in out or text.replace("10m00s", "9m59s").replace("1m05s", "1m06s") in out
    for text in ("took", "result", "error", "checkpoints", "validation file"):
        assert text not in out


def test_show_of_a_failed_job_has_the_reason_as_it_was_written(run: Run, script: ScriptedServer) -> None:
    failed = job(status="failed", finished_at=job()["created_at"], error={"code": "x", "message": "row [3] is bad"})
    script.answer(f"GET {JOBS}/ftjob-1", failed)
    script.answer(f"GET {JOBS}/ftjob-1/checkpoints", {"data": []})
    out = run("jobs", "show", "ftjob-1").out
    assert "row [3] is bad" in out
    assert "tuned model    none\n" in "\n".join(line.rstrip() for line in out.splitlines()) + "\n"
    assert "took" in out


def test_show_of_a_finished_job_has_checkpoints_result_and_files(run: Run, script: ScriptedServer) -> None:
    finished = {"fine_tuned_model": "ft:base::x", "result_files": ["file-r"], "validation_file": "file-v"}
    script.answer(f"GET {JOBS}", {"data": [job(status="succeeded", trained_tokens=12345, **finished)]})
    point = {"created_at": 5, "step_number": 3, "fine_tuned_model_checkpoint": "ft:base::x:ckpt-step-3"}
    script.answer(f"GET {JOBS}/ftjob-1/checkpoints", {"data": [{"id": "c1", **point}]})
    out = run("jobs", "show", "last").out
    for text in ("12,345", "file-v", "ft:base::x:ckpt-step-3", "file-r (tunesmith jobs result ftjob-1)"):
        assert text in out


def test_events_show_their_level_unless_it_is_info(run: Run, script: ScriptedServer) -> None:
    events = [
        {"id": "e2", "created_at": 7200, "level": "warn", "message": "slow [disk]"},
        {"id": "e1", "created_at": 3600, "level": "info", "message": "started"},
    ]
    script.answer(f"GET {JOBS}/ftjob-1", job())
    script.answer(f"GET {JOBS}/ftjob-1/events", {"data": events})
    lines = run("jobs", "events", "ftjob-1").out.splitlines()
    assert [line.partition("  ")[2] for line in lines] == ["started", "warn: slow [disk]"]
    assert run("jobs", "events", "ftjob-1", "--json").json == events[::-1]


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("cancel", "ftjob-1 is cancelled"),
        ("pause", "ftjob-1 is paused; resume it: tunesmith jobs resume ftjob-1"),
        ("resume", "ftjob-1 goes on; watch it: tunesmith jobs watch ftjob-1"),
    ],
)
def test_change_of_a_job_is_asked_for_and_confirmed(run: Run, script: ScriptedServer, action: str, said: str) -> None:
    script.answer(f"GET {JOBS}", {"data": [job()]})
    script.answer(f"POST {JOBS}/ftjob-1/{action}", job(status="cancelled"))
    assert run("jobs", action, "last").out == f"{said}\n"
    assert script.asked[-1] == f"POST {JOBS}/ftjob-1/{action}"
    assert run("jobs", action, "last", "--json").json == sent_change(script, action)


def sent_change(script: ScriptedServer, action: str) -> object:
    return json.loads(script.answers[f"POST {JOBS}/ftjob-1/{action}"][0][1])


def test_models_list_puts_aliases_beside_their_base(run: Run, script: ScriptedServer) -> None:
    models = [("base-a", "tunesmith"), ("gpt-x", "alias-of:base-a"), ("gpt-y", "alias-of:base-a"), ("base-b", "me")]
    data = [{"id": name, "created": 5, "owned_by": owner} for name, owner in models]
    script.answer("GET /v1/models", {"data": data})
    ran = run("models", "list")
    assert [line.split() for line in ran.out.splitlines() if line.strip()] == [
        ["base", "models", "also", "called"],
        ["base-a", "gpt-x,", "gpt-y"],
        ["base-b", "-"],
    ]
    assert "No tuned models yet" in ran.err
    assert run("models", "list", "--json").json == data


def test_models_list_has_tuned_models_with_their_age(run: Run, script: ScriptedServer) -> None:
    tuned = {"id": "ft:base::x", "created": int(time.time()) - 3 * 86400, "owned_by": "user"}
    script.answer("GET /v1/models", {"data": [tuned]})
    ran = run("models", "list")
    assert ran.err == ""
    day = time.strftime("%Y-%m-%d", time.localtime(int(time.time()) - 3 * 86400))
    assert ran.out.splitlines()[-1].split() == ["ft:base::x", day]


def test_models_list_has_the_newest_tuned_model_first(run: Run, script: ScriptedServer) -> None:
    created = {"ft:base::old": 5, "ft:base::new": 9, "ft:base::new-too": 9, "ft:base::between": 7}
    data = [{"id": name, "created": at, "owned_by": "user"} for name, at in created.items()]
    script.answer("GET /v1/models", {"data": data})
    listed = [line.split()[0] for line in run("models", "list").out.splitlines() if line.startswith("ft:")]
    assert listed == ["ft:base::new-too", "ft:base::new", "ft:base::between", "ft:base::old"]
    assert run("models", "list", "--json").json == data


def test_chat_with_the_newest_model_skips_checkpoints_and_bases(run: Run, script: ScriptedServer) -> None:
    names = {"base": 9, "ft:base::old": 5, "ft:base::new": 7, "ft:base::new:ckpt-step-3": 8}
    data = [{"id": name, "created": created, "owned_by": "x"} for name, created in names.items()]
    script.answer("GET /v1/models", {"data": data})
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
    script.answer("POST /v1/chat/completions", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
    ran = run("chat", "last", "Hi", "--system", "Be brief.", "--max-tokens", 5, "--seed", 1)
    assert ran.out == "Hello\n"
    assert sent(script, "POST /v1/chat/completions") == {
        "model": "ft:base::new",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "temperature": 0.2,
        "max_tokens": 5,
        "seed": 1,
    }


def test_chat_with_the_newest_model_of_none_says_how_to_make_one(run: Run, script: ScriptedServer) -> None:
    script.answer("GET /v1/models", {"data": [{"id": "base", "created": 1, "owned_by": "x"}]})
    ran = run("chat", "last", "Hi")
    assert ran.code == 1
    assert "There are no tuned models yet. Make one: tunesmith train FILE" in ran.err


def test_deleting_asks_the_server_only_with_yes(run: Run, script: ScriptedServer) -> None:
    script.answer("DELETE /v1/models/ft:base::x", {"deleted": True})
    assert run("models", "delete", "ft:base::x").code == 1
    assert script.asked == []
    ran = run("models", "delete", "ft:base::x", "--yes")
    assert ran.out == "ft:base::x is deleted.\n"
    assert script.asked[-1] == "DELETE /v1/models/ft:base::x"


def test_imported_names_with_brackets_are_listed_as_they_are(run: Run, script: ScriptedServer) -> None:
    name = "ft:gpt-4o:acme:[/b]:x"
    script.answer(f"GET {JOBS}", {"data": [job(status="succeeded", fine_tuned_model=name, model="[/i]")]})
    script.answer(f"GET {JOBS}/ftjob-1/checkpoints", {"data": []})
    script.answer("GET /v1/models", {"data": [{"id": name, "created": 5, "owned_by": "x"}]})
    assert name in run("jobs", "list").out
    assert "[/i]" in run("jobs", "show", "last").out
    assert name in run("models", "list").out
