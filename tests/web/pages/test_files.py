"""The list of files, and one file: what the check found, the mask, duplicates, and `fix` before it is applied."""

import html
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient
from tests.web.conftest import SignIn
from tests.web.work import checkpoint, finish, running_job

from tunesmith.check.report.mask_preview import preview_rows
from tunesmith.jsonvalue import JsonObject
from tunesmith.render.renderer import Renderer
from tunesmith.rows.codes import CODES
from tunesmith.rows.row_faults import FIX_LATER
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.schema.tables import files
from tunesmith.web.pages.file import fixed_name
from tunesmith.web.views.file_report import is_done_by_fix

BASE = "smollm2-135m-instruct"
HOSTILE = "<script>alert(1)<\"' \u202eevil" + "x" * 80 + ".jsonl"


def row(question: str, answer: str = "Yes.") -> JsonObject:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def lines(rows: list[Any]) -> bytes:
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows).encode()


SOUND = [row(f"Is shop {n} open?", f"Yes, shop {n} is." + " Come in." * n) for n in range(12)]


def upload(browser: TestClient, content: bytes, name: str = "train.jsonl", purpose: str = "fine-tune") -> str:
    answer = browser.post("/ui/api/v1/files", data={"purpose": purpose}, files={"file": (name, content)})
    assert answer.status_code == 200, answer.text
    return cast(str, answer.json()["id"])


def page_of(browser: TestClient, path: str) -> str:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def test_an_empty_list_says_what_to_bring(browser: TestClient) -> None:
    page = page_of(browser, "/ui/files")
    assert "No files here" in page
    assert 'id="file"' in page


def test_the_list_has_the_apis_numbers(browser: TestClient, store: Store) -> None:
    trained, exam = upload(browser, lines(SOUND)), upload(browser, b'{"item": {}}\n', "exam.jsonl", "evals")
    job = browser.post(
        "/ui/api/v1/fine_tuning/jobs", json={"model": "smollm2-135m-instruct", "training_file": trained}
    ).json()["id"]
    page = page_of(browser, "/ui/files")
    rows = re.findall(r'<tr role="row">(.*?)</tr>', page, re.DOTALL)[1:]
    assert [re.findall(r"/ui/files/(file-\w+)", one)[0] for one in rows] == [exam, trained]
    report = store.files.report(trained)
    assert report is not None
    assert f' class="number">{report["examples"]}</td>' in rows[1]
    assert f'<a href="/ui/jobs/{job}">' in rows[1]
    assert job not in rows[0]
    assert exam not in page_of(browser, "/ui/files?purpose=fine-tune")


def test_a_report_of_an_earlier_version_is_none(browser: TestClient, store: Store) -> None:
    file_id = upload(browser, lines(SOUND))
    with store.database.write() as connection:
        connection.execute(update(files).values(report={"rows": 12, "errors": [], "warnings": []}))
    for path in ("/ui/files", f"/ui/files/{file_id}"):
        assert "train.jsonl" in page_of(browser, path)


def test_the_list_goes_on_page_by_page(browser: TestClient) -> None:
    ids = [upload(browser, b"{}\n", f"{n}.jsonl", "evals") for n in range(27)][::-1]
    first = page_of(browser, "/ui/files")
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = page_of(browser, older.group(1))
    assert [one in first for one in ids] == [True] * 25 + [False] * 2
    assert [one in second for one in ids] == [False] * 25 + [True] * 2
    assert 'rel="next"' not in second


def test_hostile_names_stay_text(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND), HOSTILE)
    for path in ("/ui/files", f"/ui/files/{file}", f"/ui/jobs/new?file={file}"):
        text = browser.get(path).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_a_reader_is_shown_no_way_to_change_files(browser: TestClient, sign_in: SignIn) -> None:
    file = upload(browser, lines([*SOUND, SOUND[0]]))
    reader = sign_in("read-only")
    assert 'id="upload"' not in reader.get("/ui/files").text
    page = reader.get(f"/ui/files/{file}").text
    assert "/delete" not in page
    assert "/ui/jobs/new?file=" not in page
    assert "Store the fixed file" not in reader.get(f"/ui/files/{file}/fix").text
    for act in ("fix", "delete"):
        assert reader.post(f"/ui/files/{file}/{act}").status_code == 403
    assert len(browser.get("/ui/api/v1/files").json()["data"]) == 1


def test_a_file_of_another_project_is_not_there(browser: TestClient, sign_in: SignIn, store: Store) -> None:
    file = upload(browser, lines(SOUND))
    other = sign_in("member", store.projects.create("other").id)
    for path in ("", "/findings", "/fix", "/mask", "/duplicates", "/state"):
        assert other.get(f"/ui/files/{file}{path}").status_code == 404
    assert browser.get("/ui/files/file-none").status_code == 404


def test_findings_stand_at_their_place(browser: TestClient, store: Store) -> None:
    broken: list[Any] = [*SOUND]
    broken[6] = {"messages": [{"role": "user", "content": "Hi <b>"}, {"role": "assistent", "content": "Hello"}]}
    broken[8] = '{"messages": [}'
    file = upload(browser, lines(broken))
    page = page_of(browser, f"/ui/files/{file}")
    report = store.files.report(file)
    assert report is not None
    assert f"A job would refuse this file: {report['error_count']} errors." in page
    assert f"<strong>{report['bad_rows']}</strong>" in page
    found = browser.get(f"/ui/files/{file}/findings").text
    text = html.unescape(found)
    plain = re.sub(r"</?code>", "`", text)  # of a cure, what is to be typed
    for one in cast(list[JsonObject], report["errors"]):
        assert str(one["message"]).rstrip(".") in text
        assert str(one["cure"]) in plain
    assert '<mark>"assistent"</mark>' in text
    assert '{"messages": [<mark>}</mark>' in text
    assert "Hi &lt;b&gt;" in found
    assert "Hi <b>" not in found


def test_a_broken_file_is_said_by_its_line_in_plain_words(browser: TestClient) -> None:
    broken: list[Any] = [*SOUND, '{"messages": [}', '{"messages": []}']
    head = page_of(browser, f"/ui/files/{upload(browser, lines(broken))}").split("</section>")[0]
    assert "<strong>Line 13</strong> <code>column 15</code> A value is missing:" in head
    assert "Write one: a text in double quotes" in head
    assert "1 more error is listed below." in head
    for jargon in ("Example 13", "Expecting value", "char 14", "cannot be parsed"):
        assert jargon not in head


def test_a_cure_has_its_command_as_code_and_names_the_button(browser: TestClient, sign_in: SignIn) -> None:
    shared: list[Any] = [*SOUND, {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}]
    file = upload(browser, lines(shared))
    found = page_of(browser, f"/ui/files/{file}/findings")
    assert "Run <code>tunesmith fix FILE</code>: it writes such rows" in found
    assert "The button “Store the fixed file” below does this for you." in found
    assert "below does this" not in sign_in("read-only").get(f"/ui/files/{file}/findings").text
    unclear: list[Any] = [*SOUND, {"text": "All of it."}]
    told = page_of(browser, f"/ui/files/{upload(browser, lines(unclear))}/findings")
    assert "<code>tunesmith fix" in told
    assert "below does this" not in told


def test_warnings_that_errors_hide_are_announced(browser: TestClient) -> None:
    hidden = "Warnings about rows with an error may be missing here"
    assert hidden not in page_of(browser, f"/ui/files/{upload(browser, lines(SOUND))}/findings")
    assert hidden in page_of(browser, f"/ui/files/{upload(browser, lines([*SOUND, '{']))}/findings")


def test_every_cure_that_names_fix_is_known_to_be_the_buttons_or_not() -> None:
    with_fix = {code for code, one in CODES.items() if "tunesmith fix" in one.fix}
    assert {code for code in with_fix if is_done_by_fix(CODES[code].fix)} == {
        *("wrong_encoding", "not_jsonl", "byte_order_mark", "blank_line", "invalid_json", "other_shape"),
        *("invalid_weight", "arguments_not_text", "duplicate_row"),
    }
    assert not is_done_by_fix(FIX_LATER)


def test_rows_that_fix_leaves_out_are_named_with_why(browser: TestClient) -> None:
    question: JsonObject = {"role": "user", "content": "And now?"}
    rows: list[Any] = [*SOUND, {**SOUND[0], "source": "crm"}, SOUND[3], {"messages": []}, {"messages": [question]}]
    rows.append('{"messages": [}')
    diff = page_of(browser, f"/ui/files/{upload(browser, lines(rows))}/fix")
    left = diff.split("Rows that are left out")[1].split("</ul>")[0]
    assert re.findall(r"<strong>Line (\d+)</strong>", left) == ["13", "14", "15", "16", "17"]
    assert left.count("repeats an earlier row") == 2
    assert "is empty" in left
    assert "<code>messages</code> No message has the role" in left
    assert "A value is missing" in left
    assert "more rows are left out" not in diff


def test_many_rows_that_are_left_out_are_counted_beyond_the_first(browser: TestClient) -> None:
    rows: list[Any] = [*SOUND, *[SOUND[3]] * 130]
    diff = page_of(browser, f"/ui/files/{upload(browser, lines(rows))}/fix")
    assert diff.split("Rows that are left out")[1].split("</ul>")[0].count("<li>") == 100
    assert "30 more rows are left out." in diff


def test_many_findings_come_page_by_page(browser: TestClient, store: Store) -> None:
    rows = [{**one, "note": n} for n, one in enumerate([*SOUND, *(row(f"More {n}?") for n in range(10))])]
    file = upload(browser, lines(rows))
    first, second = (page_of(browser, f"/ui/files/{file}?page={page}") for page in (1, 2))
    first, second = (page.split('<div id="findings"')[1] for page in (first, second))
    assert "Line 1</strong> <code>note</code>" in first
    assert "Line 1</strong> <code>note</code>" not in second
    assert "Line 22</strong> <code>note</code>" in second
    report: Any = store.files.report(file)
    pages = -(-(len(report["errors"]) + len(report["warnings"])) // 15)
    assert pages > 2
    assert f"Page 2 of {pages}" in second
    assert "page=1#findings" in second
    assert f"Page {pages} of {pages}" in page_of(browser, f"/ui/files/{file}?page=99")


def test_the_histogram_has_the_reports_numbers(browser: TestClient, store: Store) -> None:
    file = upload(browser, lines(SOUND))
    page = page_of(browser, f"/ui/files/{file}")
    report: Any = store.files.report(file)
    spread = report["distributions"]["tokens_per_row"]
    table = page.split("As a table")[1].split("</table>")[0]
    assert [int(n) for n in re.findall(r'class="number">(\d+)</td>', table)] == spread["histogram"]["counts"]
    assert page.count('<rect class="bar"') == len(spread["histogram"]["counts"])
    assert f"{spread['min']} to {spread['max']} tokens" in page
    assert f"<strong>{report['openai']['tokens']:,}</strong>" in page


def test_duplicates_stand_side_by_side(browser: TestClient) -> None:
    file = upload(browser, lines([*SOUND, SOUND[2]]))
    assert "1 row says what an earlier one says" in page_of(browser, f"/ui/files/{file}")
    sides = page_of(browser, f"/ui/files/{file}/duplicates")
    assert re.findall(r"<strong>Line (\d+)</strong>", sides) == ["3", "13"]
    assert sides.count("<dd>Is shop 2 open?</dd>") == 2


def test_the_mask_is_the_renderers(
    browser: TestClient, renderer: Renderer, tmp_path: Path, store: Store, settings: Settings
) -> None:
    file = upload(browser, lines(SOUND))
    copy = tmp_path / "rows.jsonl"
    copy.write_bytes(lines(SOUND))
    [*_, wanted] = preview_rows(copy, renderer, 3)
    part = page_of(browser, f"/ui/files/{file}/mask?base={BASE}&line=3")
    learned = re.findall(
        r'<mark class="learned"><span class="only-read">.*?</span>(.*?)<span class="only-read">', part, re.DOTALL
    )
    pieces = [tuple(re.findall(r'<span class="token">(.*?)</span>', one, re.DOTALL)) for one in learned]
    assert pieces == [span.pieces for span in wanted.spans if span.learned]
    assert "There is no row in line 400" in page_of(browser, f"/ui/files/{file}/mask?base={BASE}&line=400")
    lease = running_job(store, suffix="shops")
    tuned = finish(store, lease, checkpoint(store, lease, settings.paths.jobs, 1)).planned_model
    assert f"<option>{tuned}</option>" in page_of(browser, f"/ui/files/{file}")
    own = page_of(browser, f"/ui/files/{file}/mask?base={tuned}&line=3")
    assert own.replace(tuned, BASE) == part
    unknown = browser.get(f"/ui/files/{file}/mask?base=none&line=3", headers={"hx-request": "true"})
    assert unknown.status_code == 400
    assert "<html" not in unknown.text


def test_fix_is_shown_before_it_is_applied(browser: TestClient, store: Store) -> None:
    rows = [
        *SOUND,
        {**SOUND[0], "source": "crm"},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
    ]
    old = lines(rows)
    file = upload(browser, old, "shop.jsonl")
    diff = page_of(browser, f"/ui/files/{file}/fix")
    assert "<strong>Line 14</strong>" in diff
    assert "<ins>" in diff
    assert "14 rows become 13." in diff
    assert len(browser.get("/ui/api/v1/files").json()["data"]) == 1
    answer = browser.post(f"/ui/files/{file}/fix", headers={"hx-request": "true"})
    made = answer.headers["hx-redirect"].rpartition("/")[2]
    assert browser.get(f"/ui/api/v1/files/{made}").json()["filename"] == "shop-fixed.jsonl"
    fixed = browser.get(f"/ui/api/v1/files/{made}/content").content.splitlines()
    assert len(fixed) == 13
    assert json.loads(fixed[-1]) == row("Hi", "Ho")
    assert browser.get(f"/ui/api/v1/files/{file}/content").content == old
    report = store.files.report(made)
    assert report is not None
    assert report["ok"] is True


def test_fix_of_a_sound_file_does_nothing(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND))
    assert "nothing that can be changed" in page_of(browser, f"/ui/files/{file}/fix")
    refused = browser.post(f"/ui/files/{file}/fix", headers={"hx-request": "true"})
    assert refused.status_code == 400
    assert "Nothing was stored" in refused.text
    assert len(browser.get("/ui/api/v1/files").json()["data"]) == 1


def test_a_table_is_fixed_into_rows(browser: TestClient) -> None:
    table = "question,answer\n" + "".join(f"Question {n}?,Answer {n}.\n" for n in range(12))
    file = upload(browser, table.encode(), "faq.csv")
    assert "A job would refuse this file" in page_of(browser, f"/ui/files/{file}")
    made = browser.post(f"/ui/files/{file}/fix").headers["location"]
    assert "Ready to train." in page_of(browser, made)
    assert "faq-fixed.jsonl" in page_of(browser, made)


def test_a_file_under_check_shows_it_and_then_its_report(browser: TestClient, store: Store) -> None:
    file = upload(browser, lines(SOUND))
    report = store.files.report(file)
    store.files.set_status(file, "uploaded")
    assert "every 2s" in page_of(browser, f"/ui/files/{file}")
    assert "hx-refresh" not in browser.get(f"/ui/files/{file}/state").headers
    store.files.set_status(file, "processed", report=report)
    assert browser.get(f"/ui/files/{file}/state").headers["hx-refresh"] == "true"
    store.files.set_status(file, "error", details="The check of this file was given up.")
    assert "The check of this file was given up." in page_of(browser, f"/ui/files/{file}")


def test_a_deleted_file_is_gone(browser: TestClient) -> None:
    file = upload(browser, lines(SOUND))
    assert browser.post(f"/ui/files/{file}/delete").headers["location"] == "/ui/files"
    assert browser.get(f"/ui/files/{file}").status_code == 404


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.csv", "a-fixed.jsonl"), ("x" * 300 + ".jsonl", "x" * 200 + "-fixed.jsonl"), ("", "file-fixed.jsonl")],
    ids=["table", "long", "none"],
)
def test_a_fixed_file_has_its_own_name(name: str, expected: str) -> None:
    assert fixed_name(name) == expected
