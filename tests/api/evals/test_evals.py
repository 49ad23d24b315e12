"""Evals themselves: made, listed, changed, deleted; what is wrong is named by its place."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.evals.conftest import BASE, CUSTOM, SAME, Done, Json, MakeEval, MakeRun, sampled

from tunesmith.errors import RateLimited
from tunesmith.store import Store
from tunesmith.store.evals.rows import NewRun, RunItem

Valid = Callable[[str, Json], None]
Refused = Callable[..., Json]
JUDGE: Json = {
    "type": "score_model",
    "name": "judge",
    "model": BASE,
    "input": [{"role": "user", "content": {"type": "input_text", "text": "Rate {{sample.output_text}}."}}],
    "range": [0, 10],
}


def test_an_eval_is_shown_as_it_was_made(client: TestClient, make_eval: MakeEval) -> None:
    made = make_eval(SAME, JUDGE, name="sums", metadata={"team": "a"})
    assert made["id"].startswith("eval_")
    assert (made["object"], made["name"], made["metadata"]) == ("eval", "sums", {"team": "a"})
    assert made["testing_criteria"] == [SAME, JUDGE]
    schema = {"type": "object", "properties": {"item": CUSTOM["item_schema"]}, "required": ["item"]}
    assert made["data_source_config"] == {"type": "custom", "schema": schema}
    assert client.get(f"/v1/evals/{made['id']}").json() == made


def test_a_schema_of_samples_is_shown_where_it_is_asked_for(make_eval: MakeEval) -> None:
    shown = make_eval(data_source_config={**CUSTOM, "include_sample_schema": True})["data_source_config"]["schema"]
    assert shown["required"] == ["item", "sample"]


def test_a_name_is_made_up_for_an_eval_and_a_criterion_without(make_eval: MakeEval) -> None:
    nameless = {name: value for name, value in SAME.items() if name != "name"}
    made = make_eval(nameless)
    assert made["name"] == made["testing_criteria"][0]["name"]
    assert made["name"].startswith("grader-")


def test_evals_are_listed_by_creation_or_change(client: TestClient, make_eval: MakeEval) -> None:
    ids = [make_eval(name=name)["id"] for name in ("a", "b", "c")]
    time.sleep(1.1)  # the clock of the list has seconds
    changed = client.post(f"/v1/evals/{ids[0]}", json={"name": "new", "metadata": {"k": "v"}}).json()
    assert (changed["name"], changed["metadata"]) == ("new", {"k": "v"})
    assert listed(client) == ids
    assert listed(client, order="desc") == ids[::-1]
    assert listed(client, order_by="updated_at") == [ids[1], ids[2], ids[0]]
    assert listed(client, order_by="updated_at", after=ids[1], limit=1) == [ids[2]]
    page = client.get("/v1/evals", params={"limit": 2}).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[0], ids[1], True)


def test_a_change_of_one_thing_keeps_the_other(client: TestClient, make_eval: MakeEval) -> None:
    made = make_eval(name="a", metadata={"k": "v"})
    assert client.post(f"/v1/evals/{made['id']}", json={"name": "b"}).json() == {**made, "name": "b"}


def test_a_deleted_eval_takes_its_runs_along_and_still_serves_as_a_cursor(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, refused: Refused
) -> None:
    first, second = make_eval(), make_eval()
    run = make_run(first["id"], sampled([{"item": {"answer": str(number)}} for number in range(200)]))
    gone = client.delete(f"/v1/evals/{first['id']}")
    assert gone.json() == {"object": "eval.deleted", "deleted": True, "eval_id": first["id"]}
    for url in ("", "/runs", f"/runs/{run['id']}", f"/runs/{run['id']}/output_items"):
        refused(client.get(f"/v1/evals/{first['id']}{url}"), 404)
    refused(client.delete(f"/v1/evals/{first['id']}"), 404)
    assert listed(client, after=first["id"]) == [second["id"]]


def test_answers_follow_openais_description(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, done: Done, valid: Valid
) -> None:
    made = make_eval()
    valid("Eval", made)
    valid("EvalList", client.get("/v1/evals").json())
    run = done(make_run(made["id"]))
    valid("EvalRun", run)
    url = f"/v1/evals/{made['id']}/runs"
    valid("EvalRunList", client.get(url).json())
    page = client.get(f"{url}/{run['id']}/output_items").json()
    valid("EvalRunOutputItemList", page)
    valid("EvalRunOutputItem", page["data"][0])


def test_a_request_that_is_sent_twice_makes_one_eval_and_one_run(client: TestClient, make_run: MakeRun) -> None:
    body = {"data_source_config": CUSTOM, "testing_criteria": [SAME]}
    made = [client.post("/v1/evals", json=body, headers={"Idempotency-Key": "k"}).json()["id"] for _ in range(2)]
    assert made[0] == made[1]
    assert listed(client) == made[:1]


def test_a_key_that_may_only_read_reads_only(
    app: FastAPI, client: TestClient, store: Store, make_eval: MakeEval, make_run: MakeRun, done: Done
) -> None:
    run = done(make_run(make_eval()["id"]))
    raw = store.keys.create("reader", role="read-only")[0]
    headers = {"Authorization": f"Bearer {raw}"}
    url = f"/v1/evals/{run['eval_id']}"
    for path in ("/v1/evals", url, f"{url}/runs", f"{url}/runs/{run['id']}", f"{url}/runs/{run['id']}/output_items"):
        assert client.get(path, headers=headers).status_code == 200
    for method, path in (
        ("POST", "/v1/evals"),
        ("POST", url),
        ("DELETE", url),
        ("POST", f"{url}/runs"),
        ("POST", f"{url}/runs/{run['id']}"),
        ("DELETE", f"{url}/runs/{run['id']}"),
    ):
        assert client.request(method, path, headers=headers, json={}).status_code == 403


WRONG: dict[str, tuple[Json, str, str]] = {
    "no criteria": ({"testing_criteria": []}, "testing_criteria", "array too short"),
    "too many": ({"testing_criteria": [SAME] * 21}, "testing_criteria", "array too long"),
    "type": (
        {"testing_criteria": [{"type": "guess"}]},
        "testing_criteria[0].type",
        "'guess' is not one of string_check, text_similarity, score_model, label_model, python, multi",
    ),
    "threshold": (
        {
            "testing_criteria": [
                {"type": "text_similarity", "input": "a", "reference": "a", "evaluation_metric": "bleu"}
            ]
        },
        "testing_criteria[0].pass_threshold",
        "Missing required parameter",
    ),
    "placeholder": (
        {"testing_criteria": [{**SAME, "input": "{{row.a}}"}]},
        "testing_criteria[0].input",
        "cannot be filled in",
    ),
    "python": (
        {"testing_criteria": [{"type": "python", "source": "x = 1"}]},
        "testing_criteria[0].source",
        "The source is no grader",
    ),
    "config": ({"data_source_config": {"type": "files"}}, "data_source_config.type", "'files' is not one of custom"),
    "no schema": (
        {"data_source_config": {"type": "custom"}},
        "data_source_config.item_schema",
        "Missing required parameter",
    ),
    "schema": (
        {"data_source_config": {"type": "custom", "item_schema": {"type": "car"}}},
        "data_source_config.item_schema",
        "The schema cannot be used",
    ),
    "field": ({"criteria": []}, "criteria", "Unknown parameter: 'criteria'."),
    "name": ({"name": "x" * 300}, "name", "300 characters"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_eval_is_refused_by_place(client: TestClient, refused: Refused, name: str) -> None:
    changes, param, message = WRONG[name]
    body = {"data_source_config": CUSTOM, "testing_criteria": [SAME], **changes}
    error = refused(client.post("/v1/evals", json=body))
    assert error["param"] == param
    assert message in error["message"]
    assert listed(client) == []


def test_a_judge_that_is_not_there_is_not_found(client: TestClient, refused: Refused) -> None:
    body = {"data_source_config": CUSTOM, "testing_criteria": [{**JUDGE, "model": "gpt-9"}]}
    assert refused(client.post("/v1/evals", json=body), 404)["code"] == "model_not_found"


def test_unfinished_runs_are_limited(client: TestClient, store: Store, make_eval: MakeEval, refused: Refused) -> None:
    new = NewRun(make_eval()["id"], "default", None, "n", BASE, sampled([]), {})
    rows = [RunItem({"answer": "1"})] * 1000
    store.runs.create(new, rows, most=1)
    with pytest.raises(RateLimited, match="1 unfinished eval runs"):
        store.runs.create(new, rows, most=1)


def listed(client: TestClient, **query: Any) -> list[str]:
    return [one["id"] for one in client.get("/v1/evals", params=query).json()["data"]]
