"""The playground's page, and the corrected answers that become rows."""

import html
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import SignIn

from tunesmith.web.views.corrections import FILENAME, Correction

CORRECTIONS = "/ui/playground/corrections"
HX = {"hx-request": "true"}


def row(number: int = 0, answer: str = "") -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": f"What is {number} and 1?"},
            {"role": "assistant", "content": answer or f"It is {number + 1}."},
        ]
    }


def kept(browser: TestClient) -> list[dict[str, Any]]:
    return [json.loads(line) for line in browser.get(f"{CORRECTIONS}.jsonl").text.split("\n") if line]


def files(browser: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.get("/ui/api/v1/files").json()["data"]
    return found


def test_page_offers_every_model_and_takes_the_named_ones(browser: TestClient) -> None:
    page = browser.get("/ui/playground?model=ft:x:y::z&model=b&model=c&model=d").text
    assert """data-wanted='["ft:x:y::z", "b", "c"]'""" in page
    listed = [one["id"] for one in browser.get("/ui/api/v1/models").json()["data"]]
    assert all(f'<option value="{name}">' in page for name in listed)
    assert """data-first='["smollm2-135m-instruct"]'""" in page
    assert "<script>" not in browser.get("/ui/playground?model=<script>'\"").text


def test_corrected_answers_are_rows_in_the_order_they_came(browser: TestClient) -> None:
    assert "Ten such rows make a training file" in browser.get("/ui/playground").text
    for number in range(3):
        part = browser.post(CORRECTIONS, json=row(number), headers=HX)
        assert part.headers["hx-retarget"] == "#corrections"
    assert kept(browser) == [row(number) for number in range(3)]
    browser.post(CORRECTIONS, json=row(1))  # said twice is one row
    assert kept(browser) == [row(number) for number in range(3)]
    assert [(one["filename"], one["purpose"]) for one in files(browser)] == [(FILENAME, "user_data")]
    page = browser.get("/ui/playground").text
    assert "3 rows" in page
    assert page.index("It is 3.") < page.index("It is 1.")  # the newest first


def test_rows_have_any_text_and_tools(browser: TestClient) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    hostile = {**row(answer="<b>\u2028\u0085 \r\n\"'`天气 \N{RIGHT-TO-LEFT OVERRIDE}" + "x" * 10_000), "tools": tools}
    browser.post(CORRECTIONS, json={**hostile, "other": 1})
    browser.post(CORRECTIONS, json=row())
    assert kept(browser) == [hostile, row()]
    page = browser.get("/ui/playground").text
    assert "&lt;b&gt;" in page
    assert "x" * 400 not in page


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "The body is not JSON."),
        ("[]", "A corrected answer is an object with `messages`"),
        ('{"messages": [1]}', "A corrected answer is an object with `messages`"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "The last message is what the model is to say"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "A row needs a user message"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}', "not empty"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\\ud800"}]}', "surrogate"),
        ("[" * 100_000, "The body is not JSON."),
    ],
    ids=["json", "list", "number", "no-answer", "no-question", "blank", "surrogate", "deep"],
)
def test_what_is_no_row_is_told_where_it_was_written(browser: TestClient, body: str, words: str) -> None:
    answer = browser.post(CORRECTIONS, content=body, headers=HX)
    assert (answer.status_code, "hx-retarget" in answer.headers) == (400, False)
    assert words in html.unescape(answer.text).replace("<code>", "`").replace("</code>", "`")
    assert files(browser) == []


def test_a_row_is_removed(browser: TestClient) -> None:
    for number in range(2):
        page = browser.post(CORRECTIONS, json=row(number), headers=HX).text
    newest = page.split('name="id" value="')[1].split('"')[0]
    browser.post(f"{CORRECTIONS}/remove", data={"id": newest}, headers=HX)
    assert kept(browser) == [row(0)]
    browser.post(f"{CORRECTIONS}/remove", data={"id": "none"}, headers=HX)
    assert kept(browser) == [row(0)]


def test_ten_rows_make_a_training_file_that_the_check_passes(browser: TestClient) -> None:
    for number in range(10):
        browser.post(CORRECTIONS, json=row(number))
    part = browser.post(f"{CORRECTIONS}/file", headers=HX).text
    made = next(one for one in files(browser) if one["purpose"] == "fine-tune")
    assert f'href="/ui/files/{made["id"]}"' in part
    assert (made["filename"], made["status"]) == ("corrections.jsonl", "processed")
    content = browser.get(f"/ui/api/v1/files/{made['id']}/content").text
    assert [json.loads(line) for line in content.splitlines()] == kept(browser)


def test_rows_that_are_added_at_once_are_all_kept(browser: TestClient) -> None:
    browser.post(CORRECTIONS, json=row(99))
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: browser.post(CORRECTIONS, json=row(number)), range(6)))
    assert {one["messages"][1]["content"] for one in kept(browser)} == {
        f"What is {number} and 1?" for number in (*range(6), 99)
    }
    browser.post(CORRECTIONS, json=row(7))
    assert len(files(browser)) == 1
    assert len(kept(browser)) == 8


def test_a_file_of_that_name_with_other_lines_does_no_harm(browser: TestClient) -> None:
    lines = b'nonsense\n{"messages": 1}\n\xff\n' + json.dumps(row(5)).encode() + b"\n"
    browser.post("/ui/api/v1/files", data={"purpose": "user_data"}, files={"file": (FILENAME, lines)})
    assert kept(browser) == [row(5)]


def test_a_reader_sees_the_rows_and_changes_none(sign_in: SignIn) -> None:
    sign_in().post(CORRECTIONS, json=row())
    reader = sign_in("read-only")
    page = reader.get("/ui/playground").text
    assert "It is 1." in page
    assert "/corrections/remove" not in page
    assert "takes a member" in html.unescape(page)
    refused = reader.post(CORRECTIONS, json=row(2), headers=HX)
    assert refused.status_code == 403
    assert "read-only" in refused.text
    assert kept(reader) == [row()]


def test_a_file_that_somebody_uploaded_under_the_name_is_bounded(browser: TestClient, sign_in: SignIn) -> None:
    one = json.dumps({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "x" * 70_000}]})
    for content in (f"{one}\n".encode(), b"{}\n" * 450_000):
        file = {"file": ("playground-corrections.jsonl", content)}
        browser.post("/ui/api/v1/files", data={"purpose": "user_data"}, files=file)
    assert browser.get("/ui/playground/corrections.jsonl").content == b""
    too_long = browser.post("/ui/playground/corrections", content=one)
    assert too_long.status_code == 400
    assert "64,000 are kept" in too_long.text


def test_a_reader_is_told_that_nothing_was_removed(browser: TestClient, sign_in: SignIn) -> None:
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}
    assert browser.post("/ui/playground/corrections", json=row).status_code == 200
    kept = browser.get("/ui/playground/corrections.jsonl").content
    (made,) = read_rows(kept)
    reader = sign_in("read-only")
    assert reader.post("/ui/playground/corrections/remove", data={"id": made}).status_code == 403
    assert browser.get("/ui/playground/corrections.jsonl").content == kept


def read_rows(content: bytes) -> list[str]:
    return [Correction(line).id for line in content.decode().splitlines()]
