"""Without a network every page works, and Chromium's own record has no request to another host."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect, sync_playwright
from tests.web.browser.conftest import CHROMIUM, CUT_OFF, sign_in
from tests.web.browser.server import BrowserServer
from tests.web.browser.test_every_page import addresses

URL = re.compile(r'"url":"(https?://[^/"]+)')
OF_PAGES = '"initiator":"http'  # Chromium asks its makers' servers for things of its own


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """What Chromium writes of its network, the requests of its own among it; whole once it has ended."""
    return tmp_path / "network.json"


@pytest.fixture
def page(record: Path, server: BrowserServer) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", CUT_OFF, f"--log-net-log={record}", "--net-log-capture-mode=Everything"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser.new_page(base_url=server.url, locale="en-US")
        browser.close()


def hosts(record: Path) -> set[str]:
    """Where pages sent requests, their links, pings and early connections among them; an event is a line."""
    lines = record.read_text("utf-8", "replace").splitlines()
    return {found for line in lines if OF_PAGES in line for found in URL.findall(line)}


def test_every_page_works_without_a_network(
    page: Page, record: Path, server: BrowserServer, names: dict[str, str]
) -> None:
    wrong: list[str] = []

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # of a page that was left
            wrong.append(request.url)

    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", failed)
    sign_in(page, server.key)
    for address in addresses():
        answer = page.goto(address.format(**names))
        assert answer is not None
        assert answer.status == (404 if address == "/ui/none" else 200), address
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto("/ui/playground?model=tiny")
    page.fill("#turns li:last-child textarea", "Hello")
    page.press("#turns li:last-child textarea", "Control+Enter")
    expect(page.locator(".proof")).to_have_attribute("data-adapter", "none", timeout=60_000)
    assert wrong == []
    browser = page.context.browser
    assert browser is not None
    browser.close()
    assert hosts(record) == {server.url}


def test_a_request_to_another_host_would_be_seen(page: Page, record: Path, server: BrowserServer) -> None:
    page.goto("/ui/sign-in")
    with page.expect_event("requestfailed") as failed:
        page.evaluate("location.assign('http://elsewhere.example/')")
    assert failed.value.failure == "net::ERR_NAME_NOT_RESOLVED"
    browser = page.context.browser
    assert browser is not None
    browser.close()
    assert hosts(record) == {server.url, "http://elsewhere.example"}
