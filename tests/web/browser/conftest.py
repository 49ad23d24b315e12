"""Debian's Chromium on a real server with its worker, one of each for all tests of this folder.

Every page is watched: a request to another host, an error in the console, and a violation of the
Content-Security-Policy fail the test that caused them.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, StorageState, sync_playwright
from tests.web.browser.server import BrowserServer
from tests.web.evaluated import finish_with_verdict

from tunesmith.settings import Settings
from tunesmith.store import open_store

CHROMIUM = shutil.which("chromium")
VIOLATIONS = (
    "addEventListener('securitypolicyviolation', e => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))"
)
WAIT_MS = 10_000
ABORTED = ("htmx:afterRequest", "htmx:sendAbort")  # htmx logs requests that newer ones replaced


@dataclass
class Seen:
    """What went wrong in a page; a test that causes an error on purpose takes it away with `expect`."""

    faults: list[str] = field(default_factory=list)

    def expect(self, words: str) -> None:
        expected = [one for one in self.faults if words in one]
        assert expected, f"no fault with {words!r} among {self.faults}"
        self.faults = [one for one in self.faults if words not in one]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Ends with the file: as long as Playwright runs, its thread has an event loop that is not for other tests."""
    if CHROMIUM is None:
        reason = "there is no chromium on this machine (Debian: apt-get install chromium)"
        pytest.fail(reason) if "CI" in os.environ else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def job_with_verdict(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The server's folder, and a job in its store that has ended with a verdict."""
    folder = tmp_path_factory.mktemp("browser")
    settings = Settings(data_dir=folder / "data")
    store = open_store(settings)
    try:
        store.keys.ensure_first(settings.paths.api_key_file)
        return folder, finish_with_verdict(store, settings)
    finally:
        store.close()


@pytest.fixture(scope="session")
def server(job_with_verdict: tuple[Path, str], base_dir: Path) -> Iterator[BrowserServer]:
    """Its second base is tiny, so that jobs take seconds."""
    from tests.train.conftest import write_tiny_base  # which brings torch

    tiny = job_with_verdict[0] / "tiny"
    tiny.mkdir()
    bases = json.dumps({"tiny": str(write_tiny_base(base_dir, tiny))})
    settings = {"lease_seconds": "2", "poll_seconds": "0.1", "checkpoint_seconds": "0.5", "train_idle": "false"}
    server = BrowserServer(job_with_verdict[0], bases=bases, **settings)
    server.start()
    yield server
    server.stop()


@contextmanager
def watched(
    chromium: Browser, server: BrowserServer, state: StorageState | None = None, **options: str
) -> Iterator[tuple[Page, Seen]]:
    """A page in a context of its own, and what goes wrong in it."""
    seen = Seen()
    context = chromium.new_context(storage_state=state, base_url=server.url, **{"locale": "en-US", **options})  # type: ignore[arg-type]
    context.set_default_timeout(WAIT_MS)
    _watch(context, server, seen)
    try:
        yield context.new_page(), seen
    finally:
        context.close()


def _watch(context: BrowserContext, server: BrowserServer, seen: Seen) -> None:
    def only_ours(route: Route) -> None:
        where = urlsplit(route.request.url)
        if where.netloc == urlsplit(server.url).netloc:
            route.continue_()
            return
        seen.faults.append(f"a request to another host: {route.request.url}")
        route.abort()

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(ABORTED):
            seen.faults.append(f"{message.text} at {message.page.url if message.page else ''}")

    context.route("**/*", only_ours)
    context.add_init_script(VIOLATIONS)
    context.on("console", on_console)
    context.on("weberror", lambda error: seen.faults.append(str(error.error)))


def sign_in(page: Page, key: str) -> None:
    page.goto("/ui/sign-in")
    page.fill("#key", key)
    page.press("#key", "Enter")
    page.wait_for_url("**/")


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, server: BrowserServer) -> StorageState:
    """The cookies of a browser that the first key has signed in."""
    with watched(chromium, server) as (page, seen):
        sign_in(page, server.key)
        assert seen.faults == []
        return page.context.storage_state()


@pytest.fixture
def visit(chromium: Browser, server: BrowserServer, signed_in: StorageState) -> Iterator[tuple[Page, Seen]]:
    """A page that is signed in; what goes wrong in it fails the test at its end."""
    with watched(chromium, server, signed_in) as (page, seen):
        yield page, seen
        assert seen.faults == []


@pytest.fixture
def page(visit: tuple[Page, Seen]) -> Page:
    return visit[0]


@pytest.fixture
def seen(visit: tuple[Page, Seen]) -> Seen:
    return visit[1]
