"""The main path in a browser: a broken file, its fix, a job that outlives the server, an answer, a deleted model.

It is walked by keyboard alone: everything is reached with Tab, written, chosen and pressed.
"""

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as NotInTime
from tests.web.browser.conftest import Seen
from tests.web.browser.keyboard import choose, press, reach, write
from tests.web.browser.server import BrowserServer
from tests.web.browser.test_every_page import is_there

ADDRESSES = ("/ui/files", "/ui/jobs/new", "/ui/jobs/x", "/ui/models", "/ui/playground")
pytestmark = pytest.mark.skipif(not all(map(is_there, ADDRESSES)), reason="a page of the main path is not there yet")
LONG_MS = 120_000  # a trainer starts within seconds, on a busy machine within a minute
EPOCHS = 25


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Thirty rows; the seventh says `true` where a weight belongs, which is an error that `fix` mends."""
    path = tmp_path / "questions.jsonl"
    lines = []
    for number in range(1, 31):
        answer = {"role": "assistant", "content": f"It is {2 * number}."}
        messages = [
            {"role": "system", "content": "You add."},
            {"role": "user", "content": f"What is {number} plus {number}?"},
            answer if number != 7 else {**answer, "weight": True},
        ]
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def step_of(page: Page) -> int:
    found = re.match(r"[\d,]+", page.locator("[data-shown=step]").inner_text())
    return int(found[0].replace(",", "")) if found else 0


def wait_for_step(page: Page, step: int) -> None:
    """The page shows a later step, with nobody's help."""
    page.wait_for_function(
        "step => parseInt(document.querySelector('[data-shown=step]').textContent.replace(/,/g, '')) > step",
        arg=step,
        timeout=LONG_MS,
    )


def _choose_file(page: Page, path: Path) -> None:
    """Playwright may begin to watch for choosers only after the key is pressed, so it is pressed again."""
    for _ in range(5):
        with suppress(NotInTime):
            with page.expect_file_chooser(timeout=2_000) as chooser:
                page.keyboard.press("Space")
            chooser.value.set_files(path)
            return
    pytest.fail("the space bar opens no chooser of files")


def bring(page: Page, path: Path) -> None:
    page.goto("/ui/files")
    reach(page, page.locator("#file"))
    _choose_file(page, path)
    press(page, page.get_by_role("button", name="Upload", exact=True))
    page.wait_for_url("**/ui/files/file-*")


def create(page: Page, file: str, epochs: int) -> str:
    page.goto(f"/ui/jobs/new?file={file}")
    choose(page, page.locator("#model"), "tiny")
    write(page, page.locator("#n_epochs"), str(epochs))
    write(page, page.locator("#batch_size"), "1")
    button = page.get_by_role("button", name="Create the job")
    expect(button).to_be_enabled()
    press(page, button)
    page.wait_for_url("**/ui/jobs/ftjob-*")
    return page.url.rpartition("/")[2]


def test_main_path(page: Page, seen: Seen, server: BrowserServer, broken: Path) -> None:
    bring(page, broken)
    expect(page.locator("#verdict")).to_contain_text("would refuse this file")
    expect(page.locator("#findings li", has_text="Line 7")).to_contain_text("weight")
    expect(page.locator("#findings")).to_contain_text("What is 7 plus 7?")
    before = page.url
    expect(page.locator("#fix .del")).to_contain_text('"weight":true', timeout=LONG_MS)
    expect(page.locator("#fix .ins")).to_contain_text("It is 14.")
    press(page, page.get_by_role("button", name="Store the fixed file"))
    page.wait_for_url(lambda url: "/ui/files/file-" in url and url != before)
    expect(page.locator(".verdict.ok")).to_be_visible(timeout=LONG_MS)
    file = page.url.rpartition("/")[2]

    job = create(page, file, EPOCHS)
    wait_for_step(page, 0)
    wait_for_step(page, step_of(page))
    expect(page.locator("[data-chart=loss] canvas")).to_be_visible()
    step = step_of(page)
    page.reload()
    assert step_of(page) >= step
    server.kill()
    expect(page.locator("[data-connection]")).to_be_visible(timeout=LONG_MS)
    server.start()
    wait_for_step(page, step)
    seen.expect("ERR_")  # the page asked while there was no server
    expect(page.locator("#head .badge").first).to_have_text("Succeeded", timeout=LONG_MS)
    model = page.locator("#to-model").inner_text()

    other = create(page, file, EPOCHS)
    assert other != job
    press(page, page.locator("#cancel"))
    press(page, page.locator("#cancel-now"))
    expect(page.locator("#head .badge").first).to_have_text("Cancelled")

    page.goto(f"/ui/playground?model=tiny&model={model}")
    page.wait_for_selector("#playground[data-ready]", state="attached")
    write(page, page.locator("#turns li:last-child textarea"), "What is 7 plus 7?")
    page.keyboard.press("Control+Enter")
    base, tuned = page.locator(".column").nth(0), page.locator(".column").nth(1)
    expect(base.locator(".proof")).to_have_attribute("data-adapter", "none", timeout=LONG_MS)
    expect(tuned.locator(".proof")).to_have_attribute("data-adapter", re.compile("^[0-9a-f]{64}$"), timeout=LONG_MS)

    page.goto(f"/ui/models/{model}")
    press(page, page.locator("details.danger > summary"))
    press(page, page.get_by_role("button", name=f"Delete {model}"))
    page.wait_for_url("**/ui/models*")
    expect(page.locator("main").get_by_role("status")).to_contain_text(model)
