"""The page of a verdict: every number is the file's, answers stand side by side, hostile texts stay texts."""

import json
import re
from typing import get_args

import pytest
from starlette.testclient import TestClient
from tests.evals.test_said_everywhere import toned
from tests.web.conftest import SignIn
from tests.web.evaluated import finish_with_verdict, make_evaluation

from tunesmith.evals.comparison import Decision
from tunesmith.evals.criteria import CRITERIA
from tunesmith.evals.forgetting import general_questions
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.web.language import CATALOGUES
from tunesmith.web.views.evaluations import verdict as views
from tunesmith.web.views.evaluations.decisions import BADGES, badge, text_key


@pytest.fixture
def job_id(store: Store, settings: Settings) -> str:
    return finish_with_verdict(store, settings)


def text_of(page: str) -> str:
    """The page's words, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_every_number_of_the_page_is_the_files(browser: TestClient, job_id: str) -> None:
    job = browser.get(f"/ui/api/v1/fine_tuning/jobs/{job_id}").json()
    file = browser.get(f"/ui/api/v1/files/{job['tunesmith']['evaluation']['file']}/content").json()
    page = text_of(browser.get(f"/ui/evaluations/{job_id}").text)
    for sentence in file["sentences"]:
        assert sentence.replace("->", "-&gt;") in page
    for one in file["criteria"]:
        for side in ("before", "after"):
            value, low, high = (100 * one[side][name] for name in ("value", "low", "high"))
            assert f"{value:.1f} % {low:.1f} – {high:.1f}" in page
        ends = [f"{100 * one['difference'][name]:+.1f}" for name in ("value", "low", "high")]
        assert f"{ends[0]} {ends[1]} … {ends[2]}" in page
        if "table" in one:
            counts = " ".join(str(one["table"][name]) for name in ("both", "gained", "lost", "neither"))
            assert counts in page
    for one in file["forgetting"]["kinds"]:
        assert f"{one['kind'].capitalize()} {one['rows']} {one['before']} {one['after']}" in page
    for one in (file["loss"], *file["measures"]):
        assert f"{one['before']:.2f} {one['after']:.2f} {one['difference']['value']:+.2f}" in page
    sides = file["sides"]
    assert f"Prompt tokens {sides[0]['prompt_tokens']:,} {sides[1]['prompt_tokens']:,}" in page
    assert "2 exactly and 1 nearly of 40 rows" in page
    assert "1 could not be asked" in page


def test_intervals_are_drawn_to_scale(browser: TestClient, job_id: str) -> None:
    page = browser.get(f"/ui/evaluations/{job_id}").text
    found = make_evaluation()
    after = found.outcomes[0].after
    x1, x2 = (round(8 + end * 224, 1) for end in (after.low, after.high))
    assert f'<line class="whisker after" x1="{x1}" y1="22" x2="{x2}" y2="22"/>' in page
    most = max(abs(end) for one in found.outcomes for end in (one.difference.mean.low, one.difference.mean.high))
    change = round(8 + (found.outcomes[0].difference.mean.low + most) / (2 * most) * 224, 1)
    assert f'<line class="whisker change" x1="{change}" y1="13"' in page
    assert '<line class="zero" x1="120.0"' in page


def test_flips_are_those_of_the_criterion_and_paged(browser: TestClient, job_id: str) -> None:
    table = make_evaluation().outcomes[0].table
    assert table is not None
    page = browser.get(f"/ui/evaluations/{job_id}").text
    assert f"Gained ({table.gained})" in page
    assert f"Lost ({table.lost})" in page
    seen: list[str] = []
    for number in range(1, 9):
        part = browser.get(
            f"/ui/evaluations/{job_id}?kind=lost&page={number}", headers={"hx-request": "true", "hx-target": "flips"}
        ).text
        assert "<html" not in part
        seen += re.findall(r"Row (\d+)<", part) if f">{number} of" in part or table.lost <= 8 else []
        if table.lost <= 8:
            break
    lost = [one.question.line for one in make_evaluation().pairs if (one.question.line - 1) % 8 == 0]
    assert sorted(map(int, seen)) == lost


@pytest.mark.parametrize("query", ["page=99999999", "page=-1", "page=x", "kind=none", "criterion=none", "page=٣"])
def test_odd_queries_show_the_first_flips(browser: TestClient, job_id: str, query: str) -> None:
    assert browser.get(f"/ui/evaluations/{job_id}?{query}").status_code == 200


def test_hostile_texts_are_shown_as_texts(browser: TestClient, job_id: str) -> None:
    page = browser.get(f"/ui/evaluations/{job_id}?kind=lost").text
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_list_has_only_jobs_with_a_verdict(browser: TestClient, store: Store, settings: Settings) -> None:
    assert "No job has ended with a verdict yet" in browser.get("/ui/evaluations").text
    jobs = [finish_with_verdict(store, settings) for _ in range(2)]
    other = finish_with_verdict(store, settings, project=store.projects.create("other").id)
    page = browser.get("/ui/evaluations").text
    assert [f"/ui/evaluations/{job}" in page for job in (*jobs, other)] == [True, True, False]
    assert [row.id for row in store.of("default").jobs.page(evaluated=True).data] == jobs[::-1]
    assert browser.get(f"/ui/evaluations/{other}").status_code == 404


def test_a_deleted_file_leaves_the_sentence(browser: TestClient, job_id: str) -> None:
    shown = browser.get(f"/ui/api/v1/fine_tuning/jobs/{job_id}").json()["tunesmith"]["evaluation"]
    assert browser.delete(f"/ui/api/v1/files/{shown['file']}").status_code == 200
    page = browser.get(f"/ui/evaluations/{job_id}").text
    assert "has been deleted" in page
    assert shown["sentence"].replace("->", "-&gt;") in page


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"object": "tunesmith.evaluation"}', b"\xff"],
    ids=["empty", "list", "bare", "half", "binary"],
)
def test_a_file_that_is_none_is_told(browser: TestClient, store: Store, settings: Settings, content: bytes) -> None:
    job = finish_with_verdict(store, settings, content)
    assert "cannot be read by this version" in browser.get(f"/ui/evaluations/{job}").text


def test_a_reader_may_look(sign_in: SignIn, job_id: str) -> None:
    reader = sign_in("read-only")
    assert reader.get(f"/ui/evaluations/{job_id}").status_code == 200
    assert "/ui/jobs/new" not in reader.get("/ui/evaluations").text.split("<main")[1]


def test_the_pages_have_a_text_for_each_name_of_an_evaluation() -> None:
    assert set(views.CRITERION_KEYS) == {one.name for one in CRITERIA}
    kinds = {json.loads(one.reference.text)["kind"] for one in general_questions()}
    assert kinds == set(views.KINDS)
    assert {one.name for one in make_evaluation().measures} | {"loss"} == set(views.MEASURE_KEYS)


@pytest.mark.parametrize(
    ("rows", "badge", "said"),
    [(24, "closer to the wanted wording", "on 24 rows"), (1, "too few rows to tell", "(1 row; at least 10)")],
)
def test_a_likeness_and_too_few_rows_are_called_what_they_are(
    rows: int, badge: str, said: str, browser: TestClient, store: Store, settings: Settings
) -> None:
    job_id = finish_with_verdict(store, settings, json.dumps(toned(rows).to_json()).encode())
    page = text_of(browser.get(f"/ui/evaluations/{job_id}").text)
    assert f"Verdict {badge} " in page
    assert said in page
    assert "does not check facts" in page
    assert ("at least 10 rows are needed" in page) == (rows == 1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_decision_has_a_badge_and_a_text(language: str) -> None:
    known = {key.removeprefix("verdict.") for key in CATALOGUES[language] if key.startswith("verdict.")}
    assert known == {text_key(one) for one in get_args(Decision)} | {text_key("of a later version")}
    assert set(BADGES) == set(get_args(Decision))
    assert [badge(one) for one in ("better", "worse", "of a later version", None)] == ["good", "bad", "info", "info"]
