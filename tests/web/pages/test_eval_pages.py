"""Evals of the API: their runs, charts of their graders, and two runs compared."""

import re
import time
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web.pages.test_verdicts import text_of

from tunesmith.evals.comparison import Table
from tunesmith.evals.runs.comparison import compare_shares
from tunesmith.evals.statistics import mcnemar, paired_difference, wilson

CRITERIA = [
    {"type": "string_check", "name": name, "input": "{{sample.output_text}}", "reference": reference, "operation": how}
    for name, reference, how in (("same", "{{item.answer}}", "eq"), ("<b>short</b>", "a", "ilike"))
]


@pytest.fixture
def compared(browser: TestClient) -> dict[str, Any]:
    """An eval with two runs over forty rows: in the second five rows are gained and two are lost."""
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    body = {"name": "<i>sums</i>", "data_source_config": {"type": "custom", "item_schema": schema}}
    found = browser.post("/ui/api/v1/evals", json={**body, "testing_criteria": CRITERIA}).json()
    runs = []
    for wrong in (range(5), (10, 11)):
        rows = [
            {"item": {"answer": f"a{n}"}, "sample": {"output_text": "none" if n in wrong else f"a{n}"}}
            for n in range(40)
        ]
        source = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
        run = browser.post(f"/ui/api/v1/evals/{found['id']}/runs", json={"data_source": source}).json()
        deadline = time.monotonic() + 20
        while run["status"] in ("queued", "in_progress") and time.monotonic() < deadline:
            time.sleep(0.02)
            run = browser.get(f"/ui/api/v1/evals/{found['id']}/runs/{run['id']}").json()
        runs.append(run)
    return {"eval": found, "runs": runs}


def test_runs_show_the_apis_counts(browser: TestClient, compared: dict[str, Any]) -> None:
    page = browser.get(f"/ui/evaluations/evals/{compared['eval']['id']}").text
    assert "&lt;i&gt;sums&lt;/i&gt;" in page
    assert "<i>sums" not in page
    words = text_of(page)
    for run in compared["runs"]:
        for one in run["per_testing_criteria_results"]:
            share = wilson(one["passed"], 40)
            assert f"{one['passed']} / 40 · {100 * share.value:.1f} %" in words
    assert f"/ui/evaluations/evals/{compared['eval']['id']}" in browser.get("/ui/evaluations").text


def test_two_runs_are_compared_over_their_rows(browser: TestClient, compared: dict[str, Any]) -> None:
    ids = [run["id"] for run in compared["runs"]]
    url = f"/ui/evaluations/evals/{compared['eval']['id']}/compare?before={ids[0]}&after={ids[1]}"
    page = browser.get(url).text
    words = text_of(page)
    assert "Rows both have done 40" in words
    assert "87.5 %" in words  # 35 of 40
    assert "95.0 %" in words  # 38 of 40
    assert "33 5 2 0" in words
    assert f"p {mcnemar(5, 2):.3f}" in words
    assert re.findall(r"Row (\d+)<", page) == ["1", "2", "3", "4", "5"]
    assert re.findall(r"Row (\d+)<", browser.get(url + "&kind=lost").text) == ["11", "12"]


def test_rows_of_a_run_are_filtered(browser: TestClient, compared: dict[str, Any]) -> None:
    url = f"/ui/evaluations/evals/{compared['eval']['id']}/runs/{compared['runs'][1]['id']}"
    assert browser.get(url).text.count("<article") == 20
    assert browser.get(url + "?status=fail").text.count("<article") == 2
    assert browser.get("/ui/evaluations/evals/none/runs/none").status_code == 404


def test_intervals_of_counts_are_those_of_rows() -> None:
    """The bootstrap drawn as counts is the bootstrap of `evals.statistics`, to within its draws."""
    table = Table(both=90, gained=40, lost=12, neither=58)
    before = [1.0] * 90 + [0.0] * 40 + [1.0] * 12 + [0.0] * 58
    after = [1.0] * 90 + [1.0] * 40 + [0.0] * 12 + [0.0] * 58
    slow, fast = paired_difference(before, after, range(200)).mean, compare_shares(table).difference
    assert fast.value == slow.value
    assert fast.low == pytest.approx(slow.low, abs=0.006)
    assert fast.high == pytest.approx(slow.high, abs=0.006)
    assert compare_shares(table).before == wilson(102, 200)


@pytest.mark.parametrize("table", [Table(0, 0, 0, 0), Table(1, 0, 0, 0), Table(0, 1, 0, 0), Table(2, 0, 0, 1)])
def test_few_rows_decide_nothing(table: Table) -> None:
    assert compare_shares(table).decision == "too few rows"


def test_rows_that_all_gain_leave_room_for_others() -> None:
    found = compare_shares(Table(0, 24, 0, 0))
    assert found.decision == "better"
    assert [found.difference.low, found.difference.high] == pytest.approx([0.80487, 1.0], abs=1e-5)
