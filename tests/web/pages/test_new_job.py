"""The form of a new job: what it would be, what would be refused, and what is created."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import SignIn
from tests.web.pages.test_files import BASE, SOUND, lines, row, upload

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.estimate.hyperparameters import resolve_hyperparameters
from tunesmith.estimate.job_estimate import estimate
from tunesmith.estimate.prices import dollars, require_price
from tunesmith.estimate.speed import Benchmark, benchmark_path, write_benchmark
from tunesmith.estimate.verdict_time import record_pace
from tunesmith.models.directory import context_length
from tunesmith.render.renderer import Renderer
from tunesmith.settings import Settings
from tunesmith.train.hardware import hardware_name
from tunesmith.web.views.job_form import OPTIONS, field_of, request_of


def plan_of(browser: TestClient, **form: str) -> str:
    answer = browser.post("/ui/jobs/new/plan", data={"model": BASE, "method": "supervised", **form})
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def fault_of(part: str, field: str) -> str:
    found = re.search(rf'id="fault-{field}"[^>]*>(.*?)</p>', part, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_without_files_the_page_says_what_to_do(browser: TestClient) -> None:
    assert "A job needs a file" in browser.get("/ui/jobs/new").text


def test_the_form_has_every_option_of_a_job(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND))
    page = browser.get(f"/ui/jobs/new?file={file}").text
    for name in (*OPTIONS, "n_epochs", "batch_size", "learning_rate_multiplier", "beta", "suffix", "seed", "evaluate"):
        assert f'name="{name}"' in page
        assert f'<label for="{name}">' in page
    assert f'<option value="{file}" selected>' in page


def test_the_plan_is_the_commands_estimate(
    browser: TestClient, renderer: Renderer, base_dir: Path, tmp_path: Path
) -> None:
    file = upload(browser, lines(SOUND))
    part = plan_of(browser, training_file=file, n_epochs="2", price="gpt-3.5-turbo-1106")
    copy = tmp_path / "rows.jsonl"
    copy.write_bytes(lines(SOUND))
    price = require_price("gpt-3.5-turbo-1106")
    options = CheckOptions(renderer, max_tokens=context_length(base_dir), method="supervised", encoding=price.encoding)
    report = check_file(copy, options)
    wanted = estimate(report, resolve_hyperparameters({"n_epochs": 2}, report), price)
    stats = re.findall(r"<strong>([^<]+)</strong><span>", part)
    assert (stats[0], stats[2]) == (f"{wanted.total_steps}", f"{wanted.trained_tokens:,}")
    assert f"<dd>{wanted.learned_tokens:,}</dd>" in part
    assert f"{wanted.openai_tokens:,} tokens of gpt-3.5-turbo-1106" in part
    assert dollars(wanted.openai_cost) in part
    auto = resolve_hyperparameters(None, report)
    assert f"Your number; left empty, it would be {auto.n_epochs}." in part
    assert f"auto: {auto.n_epochs}" not in part
    assert f"auto: {auto.n_epochs}. 12 rows are few" in plan_of(browser, training_file=file, n_epochs="auto")
    assert f"auto: {auto.batch_size}." in part
    assert "it makes a rate of 0.0005 (x 0.00025)" in part
    assert 'id="create"' in part
    assert "disabled" not in part.split('id="create"')[1]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("n_epochs", "many", "neither a whole number nor 'auto'"),
        ("n_epochs", "51", "greater than the maximum of 50"),
        ("batch_size", "1.5", "neither a whole number nor 'auto'"),
        ("learning_rate_multiplier", "-1", "out of range"),
        ("lora_rank", "0", "give a whole number from 1 to 512"),
        ("lora_targets", "nowhere_proj", "nowhere_proj"),
        ("suffix", "x" * 65, "64"),
        ("seed", "1e3x", "is not a whole number"),
        ("model", "gpt-9", "gpt-9"),
        ("training_file", "file-none", "there is no such file"),
        ("evaluate", "0.9", "at most 0.5"),
        ("wandb_project", "p" * 129, "at most 128 characters"),
        ("wandb_tags", "night", "Missing required parameter: 'integrations[0].wandb.project'"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_what_would_be_refused_stands_at_its_field(browser: TestClient, field: str, value: str, sentence: str) -> None:
    file = upload(browser, lines(SOUND))
    form = {"training_file": file, field: value}
    part = plan_of(browser, **form)
    at = "wandb_project" if field == "wandb_tags" else field  # tags without the project they belong to
    assert sentence in fault_of(part, at)
    assert "disabled" in part.split('id="create"')[1]
    refused = browser.post("/ui/jobs/new", data={"model": BASE, **form})
    assert refused.status_code in (400, 404)
    page = html.unescape(refused.text)
    assert fault_of(page, at) == fault_of(part, at)
    assert f'value="{value}"' in page or f"selected>{value}" in page
    assert browser.get("/ui/api/v1/fine_tuning/jobs").json()["data"] == []


def test_a_broken_file_is_refused_before_the_button(browser: TestClient) -> None:
    broken: list[Any] = [*SOUND]
    broken[6] = '{"messages": []}'
    file = upload(browser, lines(broken))
    part = plan_of(browser, training_file=file)
    fault = fault_of(part, "training_file")
    assert fault.startswith("Line 7, messages: ")
    assert "The job failed" not in part
    assert part.count(fault) == 1
    assert '<strong>Would be refused:</strong> <a href="#training_file">Training file</a>' in part
    assert "disabled" in part.split('id="create"')[1]


def test_too_few_rows_are_left_beside_those_held_out(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND[:10]))
    assert "at least 10 are needed" in fault_of(plan_of(browser, training_file=file, evaluate="true"), "evaluate")


def test_the_plan_counts_what_is_trained_and_what_the_verdict_takes(
    browser: TestClient, settings: Settings, renderer: Renderer, base_dir: Path
) -> None:
    rows = [row(f"Ask {n}", f"Answer {n}") for n in range(40)]
    speed = Benchmark(BASE, "here", 100.0, 0.5, 10.0, 1_000_000, 1000.0)
    conditions = f"{hardware_name(settings.train_threads)}, rank {settings.lora_rank}"
    write_benchmark(benchmark_path(settings.paths.root, BASE, conditions), speed)
    record_pace(settings.paths.root, BASE, 50, 50.0)
    part = plan_of(browser, training_file=upload(browser, lines(rows)), n_epochs="1", evaluate="0.1")
    assert "<dt>Rows trained</dt><dd>36</dd>" in part
    assert "<dt>Rows held out for the verdict</dt><dd>4</dd>" in part
    assert "<strong>36</strong><span>steps" in part
    assert "<dt>Of the time, for the verdict</dt><dd>28 s</dd>" in part  # 4 rows, and 24 general questions
    assert "Of 40 rows, 4 rows are held out: too few for a verdict. With at least 20 it tells something" in part
    assert "too few for a verdict" not in plan_of(browser, training_file=upload(browser, lines(rows)))


def test_few_rows_to_validate_on_are_warned_of(browser: TestClient) -> None:
    files = {"training_file": upload(browser, lines(SOUND)), "validation_file": upload(browser, lines(SOUND[:1]))}
    assert "The validation file has 1 row: too few for a verdict." in plan_of(browser, **files)
    assert "too few for a verdict" not in plan_of(browser, evaluate="false", **files)


def test_rows_of_pairs_need_their_method(browser: TestClient) -> None:
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"Greet {n}"}]},
            "preferred_output": [{"role": "assistant", "content": f"Welcome, {n}!"}],
            "non_preferred_output": [{"role": "assistant", "content": "Hi."}],
        }
        for n in range(12)
    ]
    file = upload(browser, lines(pairs))
    assert "the training method is 'supervised'" in fault_of(plan_of(browser, training_file=file), "training_file")
    part = plan_of(browser, training_file=file, method="dpo")
    assert "As in the paper on DPO." in part
    assert fault_of(part, "training_file") == ""


def test_warnings_of_the_worker_come_before_the_job(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND))
    part = plan_of(browser, training_file=file, validation_file=file, learning_rate_multiplier="0.0001")
    assert "12 rows of the validation file are in the training file too" in part
    assert "changes next to nothing" in part


def test_a_job_is_created_as_the_form_says(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND))
    form = {"model": BASE, "training_file": file, "suffix": "shop", "seed": "7", "n_epochs": "2", "lora_rank": "8"}
    answer = browser.post("/ui/jobs/new", data={**form, "schedule": "cosine", "evaluate": "false", "beta": ""})
    assert answer.status_code == 303
    job = browser.get("/ui/api/v1/fine_tuning/jobs/" + answer.headers["location"].rpartition("/")[2]).json()
    assert (job["seed"], job["user_provided_suffix"], job["hyperparameters"]["n_epochs"]) == (7, "shop", 2)
    assert job["hyperparameters"]["batch_size"] == "auto"
    assert (job["tunesmith"]["lora_rank"], job["tunesmith"]["schedule"]) == (8, "cosine")
    assert job["tunesmith"]["evaluate"] is False


def test_a_job_can_be_made_again(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND))
    body = {
        "model": BASE,
        "training_file": file,
        "seed": 5,
        "suffix": "again",
        "hyperparameters": {"n_epochs": 4},
        "tunesmith": {"lora_rank": 4, "lora_targets": ["q_proj", "v_proj"], "evaluate": 0.1},
    }
    first = browser.post("/ui/api/v1/fine_tuning/jobs", json=body).json()
    page = browser.get(f"/ui/jobs/new?from={first['id']}").text
    fields = dict(re.findall(r'<input id="(\w+)" name="\w+" value="([^"]*)"', page))
    assert (fields["n_epochs"], fields["seed"], fields["suffix"], fields["lora_rank"]) == ("4", "5", "again", "4")
    assert (fields["lora_targets"], fields["warmup_ratio"], fields["batch_size"]) == ("q_proj,v_proj", "", "")
    sent = {**fields, "model": BASE, "training_file": file, "evaluate": "0.1"}
    made = browser.post("/ui/jobs/new", data=sent).headers["location"].rpartition("/")[2]
    again = browser.get(f"/ui/api/v1/fine_tuning/jobs/{made}").json()
    assert {name: again[name] for name in ("hyperparameters", "tunesmith", "seed", "model")} == {
        name: first[name] for name in ("hyperparameters", "tunesmith", "seed", "model")
    }


NOTES = {
    "metadata_key_1": "team",
    "metadata_value_1": "shop <b>",
    "metadata_key_3": "empty",
    "wandb_project": "shops",
    "wandb_name": "night",
    "wandb_entity": "acme",
    "wandb_tags": "one,two",
}


def test_metadata_and_wandb_reach_the_job_and_the_next_form(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND))
    answer = browser.post("/ui/jobs/new", data={"model": BASE, "training_file": file, **NOTES})
    job = answer.headers["location"].rpartition("/")[2]
    made = browser.get(f"/ui/api/v1/fine_tuning/jobs/{job}").json()
    assert made["metadata"] == {"team": "shop <b>", "empty": ""}
    wandb = {"project": "shops", "name": "night", "entity": "acme", "tags": ["one", "two"]}
    assert made["integrations"] == [{"type": "wandb", "wandb": wandb}]
    shown = browser.get(f"/ui/jobs/{job}").text
    for name, value in (("team", "shop &lt;b&gt;"), ("empty", "–"), ("W&amp;B project", "shops"), ("Tags", "one, two")):
        assert re.search(rf"<dt[^>]*>{name}</dt><dd>{value}</dd>", shown), name
    again = browser.get(f"/ui/jobs/new?from={job}").text
    fields = dict(re.findall(r'<input [^>]*name="(\w+)" value="([^"]*)"', again))
    assert {name: html.unescape(fields[name]) for name in NOTES if name.startswith("wandb")} == {
        name: value for name, value in NOTES.items() if name.startswith("wandb")
    }
    assert (fields["metadata_value_1"], fields["metadata_key_2"]) == ("shop &lt;b&gt;", "empty")


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ({"metadata_key_1": "a", "metadata_key_2": "a"}, "The metadata has the key 'a' twice."),
        ({"metadata_key_1": "k" * 65}, "it must have 1 to 64"),
        ({"metadata_value_1": "v"}, "the key '' has 0 characters"),
        ({"metadata_key_1": "a", "metadata_value_1": "v" * 513}, "at most 512 are kept"),
    ],
    ids=["twice", "long key", "no key", "long value"],
)
def test_wrong_metadata_is_told_below_its_rows(browser: TestClient, pairs: dict[str, str], sentence: str) -> None:
    form = {"training_file": upload(browser, lines(SOUND)), **pairs}
    part = plan_of(browser, **form)
    assert sentence in fault_of(part, "metadata")
    assert '<a href="#metadata">Metadata</a>' in part
    refused = browser.post("/ui/jobs/new", data={"model": BASE, **form})
    assert refused.status_code == 400
    assert fault_of(html.unescape(refused.text), "metadata") == fault_of(part, "metadata")
    assert all(f'name="{name}" value="{value}"' in refused.text for name, value in pairs.items())


def test_every_field_keeps_its_value_when_a_job_is_refused(browser: TestClient) -> None:
    files = {name: upload(browser, lines(SOUND)) for name in ("training_file", "validation_file")}
    chosen = {"model": BASE, "evaluate": "0.1", "price": "gpt-3.5-turbo-1106", **files}
    page = browser.get("/ui/jobs/new").text
    typed = {name: f"{name[:40]} <1>" for name in re.findall(r'<input id="\w+" name="(\w+)"', page)} | {
        f"metadata_{part}_{n}": f"{part} {n}" for part in ("key", "value") for n in range(1, 17)
    }
    lists = re.findall(
        r'<select id="(\w+)"[^>]*><option value="">As this server.*?<option>([^<]+)</option></select>', page
    )
    assert {"seed", "suffix", "beta", "lora_targets", "wandb_tags"} < set(typed)
    assert len(lists) >= 3
    answer = browser.post("/ui/jobs/new", data={**typed, **chosen, **dict(lists), "method": "dpo"})
    assert answer.status_code == 400
    shown = html.unescape(answer.text)
    for name, value in typed.items():
        assert f'name="{name}" value="{value}"' in shown, name
    for name, value in lists:
        assert re.search(rf'<select id="{name}".*?<option selected>{value}</option>', shown), name
    for name, value in chosen.items():
        assert re.search(rf'<select id="{name}".*?(value="{value}"| )? ?selected>', shown, re.DOTALL), name
    assert 'value="dpo" checked' in shown


def test_a_reader_sees_why_the_button_is_off(browser: TestClient, sign_in: SignIn) -> None:
    file = upload(browser, lines(SOUND))
    reader = sign_in("read-only")
    page = reader.get(f"/ui/jobs/new?file={file}").text
    assert "Your key may only look" in page
    refused = reader.post("/ui/jobs/new", data={"model": BASE, "training_file": file})
    assert refused.status_code == 403
    assert "read-only" in fault_of(refused.text, "form")


def test_a_plan_without_a_file_asks_for_one(browser: TestClient) -> None:
    assert "Choose a training file" in plan_of(browser)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            {"n_epochs": "auto"},
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}}},
        ),
        ({"method": "dpo", "beta": ".5"}, {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.5}}}}),
        ({"beta": "1"}, {"method": {"type": "supervised", "supervised": {"hyperparameters": {}}}}),
        (
            {"metadata_key_2": " team", "metadata_value_2": "a, b", "wandb_project": "p", "wandb_tags": "x, ,y"},
            {
                "method": {"type": "supervised", "supervised": {"hyperparameters": {}}},
                "metadata": {"team": "a, b"},
                "integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["x", "y"]}}],
            },
        ),
        (
            {"evaluate": "true", "lora_targets": "q_proj, v_proj", "other": "1"},
            {
                "method": {"type": "supervised", "supervised": {"hyperparameters": {}}},
                "tunesmith": {"lora_targets": ["q_proj", "v_proj"], "evaluate": True},
            },
        ),
    ],
    ids=["auto", "dpo", "beta", "notes", "options"],
)
def test_a_form_makes_a_request(form: dict[str, str], expected: dict[str, Any]) -> None:
    assert request_of(form) == expected


@pytest.mark.parametrize(
    ("param", "field"),
    [
        ("method.supervised.hyperparameters.n_epochs", "n_epochs"),
        ("tunesmith.lora_rank", "lora_rank"),
        ("method.type", "method"),
        (None, "form"),
        ("metadata", "metadata"),
        ("integrations[0].wandb.tags[3]", "wandb_tags"),
        ("integrations[0].type", "form"),
    ],
)
def test_a_refusal_finds_its_field(param: str | None, field: str) -> None:
    assert field_of(param) == field


def test_a_long_file_is_told_of_its_cut_rows(browser: TestClient) -> None:
    long = [row(f"Tell me all, {n}", "word " * 9000) for n in range(10)]
    file = upload(browser, json.dumps(long[0]).encode() + b"\n" + lines([*SOUND, *long[1:2]]))
    assert "2 rows have more than 8,192 tokens" in plan_of(browser, training_file=file)
