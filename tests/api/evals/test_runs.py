"""Runs: rows graded as they are, rows that a model answers, stored chats; their items, their sums, their ends."""

import json
import time
from collections.abc import Callable

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient
from tests.api.evals.conftest import BASE, CUSTOM, ROWS, SAME, Done, Json, MakeEval, MakeRun, inline, sampled
from tests.servers import wait_until

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.evals.rows import NewRun, RunItem
from tunesmith.store.objects.pagination import Cursor

Items = Callable[..., list[Json]]
ANSWERED = [{"item": {"answer": str(number)}} for number in range(5)]


def test_rows_are_graded_as_they_are(make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items) -> None:
    run = done(make_run(make_eval()["id"], name="first", metadata={"a": "b"}))
    assert run["status"] == "completed"
    assert run["result_counts"] == {"total": 2, "errored": 0, "failed": 1, "passed": 1}
    assert run["per_testing_criteria_results"] == [{"testing_criteria": "same", "passed": 1, "failed": 1}]
    assert (run["per_model_usage"], run["model"], run["name"], run["metadata"]) == ([], "", "first", {"a": "b"})
    found = {item["datasource_item_id"]: item for item in items(run)}
    assert [found[0]["status"], found[1]["status"]] == ["pass", "fail"]
    assert found[0]["datasource_item"] == {"answer": "4"}
    same = {"name": "same", "type": "string_check", "score": 1.0, "passed": True, "sample": None}
    assert found[0]["results"] == [same]
    assert found[1]["results"] == [{**same, "score": 0.0, "passed": False}]
    assert found[1]["sample"]["output"] == [{"role": "assistant", "content": "6"}]
    assert (run["error"], found[1]["sample"]["error"]) == (None, None)  # as recorded, whatever the description says


def test_items_are_paged_ordered_and_filtered(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items
) -> None:
    rows = [{"item": {"answer": "1"}, "sample": {"output_text": str(number % 2)}} for number in range(7)]
    run = done(make_run(make_eval()["id"], inline(*rows)))
    whole = items(run, limit=100)
    assert sorted(item["datasource_item_id"] for item in whole) == list(range(7))
    assert items(run, limit=100, order="desc") == whole[::-1]
    assert items(run, limit=3, after=whole[2]["id"]) == whole[3:6]
    passed, failed = items(run, status="pass"), items(run, status="fail")
    assert (len(passed), len(failed)) == (3, 4)
    assert {item["status"] for item in failed} == {"fail"}
    page = client.get(f"/v1/evals/{run['eval_id']}/runs/{run['id']}/output_items", params={"limit": 2}).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (whole[0]["id"], whole[1]["id"], True)
    one = client.get(f"/v1/evals/{run['eval_id']}/runs/{run['id']}/output_items/{whole[4]['id']}").json()
    assert one == whole[4]


def test_a_model_answers_every_row_as_in_a_chat(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items
) -> None:
    run = done(make_run(make_eval()["id"], sampled(ANSWERED)))
    assert (run["status"], run["result_counts"]["total"], run["model"]) == ("completed", 5, BASE)
    [usage] = run["per_model_usage"]
    assert (usage["model_name"], usage["invocation_count"]) == (BASE, 5)
    found = items(run)
    assert usage["completion_tokens"] == sum(item["sample"]["usage"]["completion_tokens"] for item in found) > 0
    assert usage["prompt_tokens"] == sum(item["sample"]["usage"]["prompt_tokens"] for item in found) > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    one = found[0]
    [asked], [answered] = one["sample"]["input"], one["sample"]["output"]
    assert asked == {"role": "user", "content": f"Say {one['datasource_item']['answer']}."}
    chat = {"model": BASE, "messages": [asked], "max_completion_tokens": 4, "temperature": 0}
    said = client.post("/v1/chat/completions", json=chat).json()["choices"][0]
    assert (answered["content"], one["sample"]["finish_reason"]) == (said["message"]["content"], said["finish_reason"])
    numbers = {name: one["sample"][name] for name in ("temperature", "top_p", "seed", "max_completion_tokens")}
    assert numbers == {"temperature": 0, "top_p": 1.0, "seed": 42, "max_completion_tokens": 4}


def test_what_a_run_used_is_counted_for_its_key(
    client: TestClient, store: Store, make_eval: MakeEval, make_run: MakeRun, done: Done
) -> None:
    run = done(make_run(make_eval()["id"], sampled(ANSWERED)))
    [usage] = run["per_model_usage"]
    [counted] = store.usage.sums(0, 2**40, 86_400)
    assert counted.counts.requests == 5
    assert counted.counts.completion_tokens == usage["completion_tokens"]


def test_models_judge_with_a_label_and_a_score(
    make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items
) -> None:
    asked = [{"role": "user", "content": "Is {{sample.output_text}} a number?"}]
    label = {"type": "label_model", "name": "kind", "model": BASE, "input": asked, "labels": ["yes", "no"]}
    label["passing_labels"] = ["yes", "no"]
    run = done(make_run(make_eval(SAME, label)["id"], inline(*ROWS)))
    assert run["result_counts"] == {"total": 2, "errored": 0, "failed": 1, "passed": 1}
    [usage] = run["per_model_usage"]
    assert usage["invocation_count"] == 2
    assert [one["name"] for one in items(run)[0]["results"]] == ["same", "kind"]


def test_code_judges_in_the_jail(make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items) -> None:
    source = "def grade(sample, item):\n    return len(sample['output_text']) / int(item['answer'])"
    run = done(make_run(make_eval({"type": "python", "name": "long", "source": source, "pass_threshold": 0.22})["id"]))
    assert run["result_counts"] == {"total": 2, "errored": 0, "failed": 1, "passed": 1}
    assert {item["results"][0]["score"] for item in items(run)} == {0.25, 0.2}


def test_a_row_without_a_score_is_an_error_and_the_others_go_on(
    make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items
) -> None:
    rows: list[Json] = [*ROWS, {"item": {"other": 1}, "sample": {"output_text": "4"}}]
    run = done(make_run(make_eval()["id"], inline(*rows)))
    assert run["result_counts"] == {"total": 3, "errored": 1, "failed": 1, "passed": 1}
    assert run["per_testing_criteria_results"] == [{"testing_criteria": "same", "passed": 1, "failed": 1}]
    [broken] = [item for item in items(run) if item["status"] == "error"]
    error = broken["results"][0]["error"]
    assert error["code"] == "invalid_variable_error"
    assert "there is no 'answer'" in error["message"]


def test_a_row_that_no_model_can_be_asked_is_an_error(
    make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items
) -> None:
    reference = {"type": "item_reference", "item_reference": "item.input"}
    rows = [{"item": {"answer": "a", "input": "Hi"}}, {"item": {"answer": "a"}}]
    run = done(make_run(make_eval()["id"], sampled(rows, input_messages=reference)))
    assert (run["status"], run["result_counts"]["errored"]) == ("completed", 1)
    [broken] = [item for item in items(run) if item["status"] == "error"]
    assert broken["datasource_item_id"] == 1
    assert "neither a text nor a list of messages" in broken["sample"]["error"]["message"]


def test_rows_of_an_earlier_version_have_no_error_of_empty_texts(
    store: Store, make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items
) -> None:
    run = done(make_run(make_eval()["id"]))
    with store.database.write() as connection:
        query = text("UPDATE eval_items SET sample = replace(sample, :new, :old)")
        names = {"new": '"error": null', "old": '"error": {"code": "", "message": ""}'}
        assert connection.execute(query, names).rowcount == 2
    assert [item["sample"]["error"] for item in items(run)] == [None, None]


def test_rows_come_from_a_file(
    client: TestClient, upload: Callable[..., Json], make_eval: MakeEval, make_run: MakeRun, done: Done
) -> None:
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    file = upload(content, "rows.jsonl", "evals")
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file["id"]}}
    assert done(make_run(make_eval()["id"], source))["result_counts"]["passed"] == 1


@pytest.mark.parametrize("kind", ["logs", "stored_completions"])
def test_stored_chats_are_graded_and_asked_again(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items, kind: str
) -> None:
    for kept in ("yes", "no"):
        chat = {"model": BASE, "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 3}
        sent = {**chat, "store": True, "metadata": {"kept": kept}, "temperature": 0}
        assert client.post("/v1/chat/completions", json=sent).status_code == 200
    check = {**SAME, "reference": "{{item.output[0].content}}"}
    made = make_eval(check, data_source_config={"type": kind, "metadata": {"kept": "yes"}})
    source = {"type": "stored_completions"}
    as_it_was = done(make_run(made["id"], {"type": "completions", "source": source}))
    assert as_it_was["result_counts"] == {"total": 1, "errored": 0, "failed": 0, "passed": 1}
    assert as_it_was["per_model_usage"] == []
    again = sampled([], source=source, input_messages={"type": "item_reference", "item_reference": "item.input"})
    again["sampling_params"]["max_completion_tokens"] = 3
    asked = done(make_run(made["id"], again))
    assert asked["result_counts"]["passed"] == 1
    assert asked["per_model_usage"][0]["invocation_count"] == 1
    assert items(asked)[0]["sample"]["input"] == [{"role": "user", "content": "Hi"}]


def test_responses_shaped_runs_hold_answers_to_their_text_format(
    make_eval: MakeEval, make_run: MakeRun, done: Done, items: Items
) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    data = sampled(ANSWERED[:1], type="responses", sampling_params={"text": text, "max_completion_tokens": 20})
    check = {**SAME, "input": "{{sample.output_json.n}}", "reference": "7"}
    run = done(make_run(make_eval(check)["id"], data))
    assert run["result_counts"]["passed"] == 1, items(run)


def test_a_cancelled_run_stops_and_keeps_what_it_has(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, items: Items
) -> None:
    rows = [{"item": {"answer": str(number)}} for number in range(400)]
    data = sampled(rows, sampling_params={"max_completion_tokens": 60})
    run = make_run(make_eval()["id"], data)
    url = f"/v1/evals/{run['eval_id']}/runs/{run['id']}"
    answer = client.post(f"{url}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    again = client.post(url)
    assert (again.status_code, again.json()["status"]) == (200, "canceled")
    counts = client.get(url).json()["result_counts"]
    assert counts["passed"] + counts["failed"] + counts["errored"] < 400
    assert client.delete(url).json() == {"object": "eval.run.deleted", "deleted": True, "run_id": run["id"]}
    assert client.get(url).status_code == 404


def test_a_server_that_stops_gives_its_run_back_and_the_next_one_goes_on(
    settings: Settings, store: Store, pool: Pool, key: str
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    rows = [{"item": {"answer": str(number)}} for number in range(60)]
    with TestClient(create_app(settings, store, pool), headers=headers) as client:
        made = client.post("/v1/evals", json={"data_source_config": CUSTOM, "testing_criteria": [SAME]}).json()
        url = f"/v1/evals/{made['id']}/runs"
        run = client.post(url, json={"data_source": sampled(rows)}).json()
        wait_until(lambda: client.get(f"{url}/{run['id']}").json()["result_counts"]["failed"] > 3, 60, "four rows")
        started = time.monotonic()
    assert time.monotonic() - started < 4  # it does not wait for the answers under way
    left = store.runs.get(made["id"], run["id"])
    assert (left.status, left.worker) == ("in_progress", None)
    with TestClient(create_app(settings, store, pool), headers=headers) as client:
        wait_until(lambda: client.get(f"{url}/{run['id']}").json()["status"] == "completed", 60, "the end of the run")
        ended = client.get(f"{url}/{run['id']}").json()
    assert ended["per_model_usage"][0]["invocation_count"] == 60
    assert sum(ended["result_counts"][name] for name in ("passed", "failed")) == 60


def test_a_finished_run_cannot_be_cancelled(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, done: Done, refused: Callable[..., Json]
) -> None:
    run = done(make_run(make_eval()["id"]))
    error = refused(client.post(f"/v1/evals/{run['eval_id']}/runs/{run['id']}"))
    assert error["message"] == f"The run {run['id']} is completed: there is nothing to cancel."


def test_runs_are_listed_and_filtered_by_status(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, done: Done
) -> None:
    made = make_eval()
    runs = [done(make_run(made["id"]))["id"] for _ in range(3)]
    url = f"/v1/evals/{made['id']}/runs"
    assert [run["id"] for run in client.get(url).json()["data"]] == runs
    assert [run["id"] for run in client.get(url, params={"order": "desc", "limit": 2}).json()["data"]] == runs[:0:-1]
    assert client.get(url, params={"status": "failed"}).json()["data"] == []
    assert len(client.get(url, params={"status": "completed", "after": runs[0]}).json()["data"]) == 2


def test_a_run_whose_model_is_gone_fails_with_a_reason(
    client: TestClient, store: Store, make_eval: MakeEval, done: Done
) -> None:
    made = make_eval()
    new = NewRun(made["id"], "default", None, "gone", "ft:gone", sampled([], model="ft:gone"), {})
    store.runs.create(new, [RunItem({"answer": "1"})])
    run = done({"eval_id": made["id"], "id": store.runs.page(made["id"], Cursor(1)).data[0].id})
    assert run["status"] == "failed"
    assert run["error"]["code"] == "model_not_found"
    assert "ft:gone" in run["error"]["message"]


WRONG: dict[str, tuple[Json, str, str]] = {
    "no source": ({"type": "jsonl"}, "data_source.source", "Missing required parameter: 'data_source.source'."),
    "other type": ({"type": "csv"}, "data_source.type", "'csv' is not one of jsonl, completions, responses"),
    "no rows": (inline() | {"source": {"type": "file_content", "content": []}}, "data_source.source.content", "short"),
    "schema": (
        inline({"item": {"answer": 4}, "sample": {"output_text": "4"}}),
        "data_source.source",
        'Row 1: item.answer does not follow the eval\'s item_schema: 4 is not of type "string"',
    ),
    "sample": (inline({"item": {"answer": "4"}}), "data_source.source", "Row 1 has no sample"),
    "stored": (
        sampled([], source={"type": "stored_completions"}),
        "data_source.source.type",
        "has items of a schema of its own (custom)",
    ),
    "messages": (
        {**sampled(ROWS), "input_messages": None},
        "data_source.input_messages",
        "Missing required parameter",
    ),
    "own answer": (
        sampled(
            ROWS,
            input_messages={"type": "template", "template": [{"role": "user", "content": "{{sample.output_text}}"}]},
        ),
        "data_source.input_messages.template[0].content",
        "There is no sample yet when the model is asked",
    ),
    "unknown field": ({**inline(), "rows": 3}, "data_source.rows", "Unknown parameter: 'data_source.rows'."),
    "sampling": (
        sampled(ROWS, sampling_params={"temperature": 3}),
        "data_source.sampling_params.temperature",
        "above maximum value",
    ),
    "responses": (
        sampled([], type="responses", source={"type": "responses"}),
        "data_source.source.type",
        "it keeps no responses. Let an eval of the kind logs read stored completions (chats asked with store=true), or",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_run_is_refused_by_place(
    client: TestClient, make_eval: MakeEval, refused: Callable[..., Json], name: str
) -> None:
    data, param, message = WRONG[name]
    made = make_eval()
    error = refused(client.post(f"/v1/evals/{made['id']}/runs", json={"data_source": data}))
    assert error["param"] == param
    assert message in error["message"]
    assert client.get(f"/v1/evals/{made['id']}/runs").json()["data"] == []


def test_unknown_models_and_files_are_not_found(
    client: TestClient, make_eval: MakeEval, refused: Callable[..., Json]
) -> None:
    url = f"/v1/evals/{make_eval()['id']}/runs"
    model = refused(client.post(url, json={"data_source": sampled(ROWS, model="gpt-9")}), 404)
    assert model["code"] == "model_not_found"
    source = {"type": "jsonl", "source": {"type": "file_id", "id": "file-none"}}
    assert "file-none" in refused(client.post(url, json={"data_source": source}), 404)["message"]


def test_a_broken_line_of_a_file_is_named(
    client: TestClient, upload: Callable[..., Json], make_eval: MakeEval, refused: Callable[..., Json]
) -> None:
    file = upload(b'{"item": {"answer": "1"}}\n{"item": 5}\n', "rows.jsonl", "evals")
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file["id"]}}
    error = refused(client.post(f"/v1/evals/{make_eval()['id']}/runs", json={"data_source": source}))
    assert "rows.jsonl line 2" in error["message"]


def test_rows_beyond_the_limit_are_refused_before_anything_is_kept(
    client: TestClient, make_eval: MakeEval, refused: Callable[..., Json]
) -> None:
    rows = [{"item": {"answer": "1"}, "sample": {"output_text": "1"}}] * 10_001
    error = refused(client.post(f"/v1/evals/{make_eval()['id']}/runs", json={"data_source": inline(*rows)}))
    assert (error["code"], error["param"]) == ("too_many_rows", "data_source.source")
    assert "10,000" in error["message"]


def test_a_run_of_another_eval_is_not_found(client: TestClient, make_eval: MakeEval, make_run: MakeRun) -> None:
    run, other = make_run(make_eval()["id"]), make_eval(data_source_config=CUSTOM)
    assert client.get(f"/v1/evals/{other['id']}/runs/{run['id']}").status_code == 404
