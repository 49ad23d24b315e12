"""Every page in both themes and both languages: no violation axe-core knows of, nothing wider than its window.

Pages of the navigation come by themselves; a page about one object is added to `DETAILS`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, StorageState
from starlette.routing import Match
from tests.web.browser.conftest import Seen, watched
from tests.web.browser.server import BrowserServer

from tunesmith.web import language
from tunesmith.web.pages import ROUTES

NAVIGATION = Path(language.__file__).parent / "templates/parts/navigation.html"
DETAILS = ("/ui/evaluations/{job}",)  # `{job}`: one that has ended with a verdict
LOOKS = {"light-en": ("light", "en-US"), "dark-zh": ("dark", "zh-CN")}
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


def is_there(address: str) -> bool:
    scope = {"type": "http", "path": address, "method": "GET", "root_path": ""}
    return any(route.matches(scope)[0] is Match.FULL for route in ROUTES)


def addresses() -> list[str]:
    """The navigation's, as far as their pages are there, and those of single objects."""
    named = re.findall(r'"(/(?:ui/[\w/-]+)?)"', NAVIGATION.read_text("utf-8"))
    return [*dict.fromkeys(one for one in named if is_there(one)), "/ui/none", *DETAILS]


@pytest.fixture(scope="module", params=LOOKS)
def look(
    request: pytest.FixtureRequest, chromium: Browser, server: BrowserServer, signed_in: StorageState
) -> Iterator[tuple[Page, Seen]]:
    scheme, locale = LOOKS[request.param]
    with watched(chromium, server, signed_in, color_scheme=scheme, locale=locale) as found:
        yield found


@pytest.mark.parametrize("address", addresses())
def test_page_is_open_to_everybody(look: tuple[Page, Seen], address: str, job_with_verdict: tuple[Path, str]) -> None:
    page, seen = look
    seen.faults.clear()
    page.set_viewport_size(DESK)  # type: ignore[arg-type]
    page.goto(address.format(job=job_with_verdict[1]))
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []
    for size in (DESK, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    if address == "/ui/none":
        seen.expect("404")
    assert seen.faults == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_sign_in_is_open_to_everybody(chromium: Browser, server: BrowserServer, theme: str) -> None:
    with watched(chromium, server, color_scheme=theme, locale="zh-CN" if theme == "dark" else "en-US") as (page, seen):
        page.goto("/ui/sign-in")
        assert Axe().run(page).response["violations"] == []
        assert seen.faults == []


def test_navigation_is_read() -> None:
    assert {"/", "/ui/keys", "/ui/health", "/ui/evaluations"} <= set(addresses())
