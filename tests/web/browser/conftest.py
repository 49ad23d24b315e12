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
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, StorageState, sync_playwright
from tests.web.browser.server import BrowserServer
from tests.web.evaluated import finish_with_verdict
from tests.web.numbers.filled import card_of, content, make_evals
from tests.web.pages.test_files import SOUND, lines, row
from tests.web.work import checkpoint, finish, running_job, train

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store

CHROMIUM = shutil.which("chromium")
VIOLATIONS = (
    "addEventListener('securitypolicyviolation', e => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))"
)
ADDING = [row(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(60)]
WAIT_MS = 10_000
CUT_OFF = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # the network
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
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", CUT_OFF])
        yield browser
        browser.close()


def _with_curves(store: Store, settings: Settings, suffix: str) -> str:
    lease = running_job(store, suffix=suffix)
    train(store, lease, 1, 40, 40)
    finish(store, lease, checkpoint(store, lease, settings.paths.jobs, 20))
    return lease.job_id


class Objects(NamedTuple):
    """The server's folder, and three jobs in its store: one that has ended with a verdict, two with curves."""

    folder: Path
    job: str
    curves: str
    others: str


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """They are made before there is a worker."""
    folder = tmp_path_factory.mktemp("browser")
    settings = Settings(data_dir=folder / "data")
    store = open_store(settings)
    try:
        store.keys.ensure_first(settings.paths.api_key_file)
        job = finish_with_verdict(store, settings)
        card_of(store, settings, job)
        return Objects(folder, job, *(_with_curves(store, settings, name) for name in ("curves", "others")))
    finally:
        store.close()


@pytest.fixture(scope="session")
def server(objects: Objects, base_dir: Path) -> Iterator[BrowserServer]:
    """Its second base is tiny, so that jobs take seconds."""
    from tests.train.conftest import write_tiny_base  # which brings torch

    tiny = objects.folder / "tiny"
    tiny.mkdir()
    bases = json.dumps({"tiny": str(write_tiny_base(base_dir, tiny))})
    settings = {"lease_seconds": "2", "poll_seconds": "0.1", "checkpoint_seconds": "0.5", "train_idle": "false"}
    server = BrowserServer(objects.folder, bases=bases, **settings)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def names(server: BrowserServer, objects: Objects) -> dict[str, str]:
    """The ids that the addresses of single objects have in them."""
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.key}"}) as client:
        found, *runs = make_evals(client, "/v1")
        files = [
            client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (f"{name}.jsonl", rows)}).json()[
                "id"
            ]
            for name, rows in (("shops", content()), ("sound", lines([*SOUND, *ADDING])))
        ]
        model = client.get(f"/v1/fine_tuning/jobs/{objects.job}").json()["fine_tuned_model"]
    ids = {"eval": found, "before": runs[0], "run": runs[1], "file": files[0], "sound": files[1], "model": str(model)}
    return {**ids, "job": objects.job, "curves": objects.curves, "others": objects.others}


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
