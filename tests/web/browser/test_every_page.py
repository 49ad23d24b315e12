"""Every page in both themes and both languages: no violation axe-core knows of, nothing wider than its window.

Pages of the navigation come by themselves; a page about one object is added to `DETAILS`. Each is loaded once in each
language, and its theme is changed on the loaded page, where only colours are looked at again. Chinese pages have the
same elements and shorter texts: `make test` loads every third.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, StorageState
from starlette.routing import Match
from tests.samples import WHOLE
from tests.web.browser.conftest import Seen, watched
from tests.web.browser.server import BrowserServer
from tests.web.evaluated import BASE

from tunesmith.web import language
from tunesmith.web.pages import ROUTES

NAVIGATION = Path(language.__file__).parent / "templates/parts/navigation.html"
EVAL = "/ui/evaluations/evals/{eval}"
DETAILS = (
    "/ui/evaluations/{job}",  # that has ended with a verdict
    "/ui/evaluations/{curves}",  # without one
    EVAL,
    EVAL + "/runs/{run}",
    EVAL + "/compare?before={before}&after={run}",
    "/ui/files/{file}",
    "/ui/jobs/{curves}",
    "/ui/jobs/{curves}/events?steps=1",
    "/ui/jobs/compare?job={job}&job={curves}",
    "/ui/models/{model}",
    f"/ui/models/{BASE}",
)
LANGUAGES = {"en": ("en-US", "light", "dark"), "zh": ("zh-CN", "dark", "light")}  # with the order of the themes
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
AXE = Axe().axe_script
FIND = """async options => (await axe.run(document, options)).violations
  .map(one => [one.id, ...one.nodes.map(node => node.html.slice(0, 200))])"""
GROUND = "getComputedStyle(document.documentElement).backgroundColor"
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


def is_there(address: str) -> bool:
    scope = {"type": "http", "path": address, "method": "GET", "root_path": ""}
    return any(route.matches(scope)[0] is Match.FULL for route in ROUTES)


def addresses() -> list[str]:
    """The navigation's, as far as their pages are there, and those of single objects."""
    named = re.findall(r'"(/(?:ui/[\w/-]+)?)"', NAVIGATION.read_text("utf-8"))
    return [*dict.fromkeys(one for one in named if is_there(one)), "/ui/none", *DETAILS]


def cases() -> list[tuple[str, str]]:
    """Languages and addresses; pages of one language are loaded one after another in one tab."""
    chinese = addresses() if WHOLE else addresses()[::3]
    return [*(("en", one) for one in addresses()), *(("zh", one) for one in chinese)]


@pytest.fixture(scope="module")
def look(
    request: pytest.FixtureRequest, chromium: Browser, server: BrowserServer, signed_in: StorageState
) -> Iterator[tuple[Page, Seen, tuple[str, str]]]:
    locale, first, second = LANGUAGES[request.param]
    with watched(chromium, server, signed_in, color_scheme=first, locale=locale) as (page, seen):
        yield page, seen, (first, second)


@pytest.mark.parametrize(("look", "address"), cases(), indirect=["look"])
def test_page_is_open_to_everybody(
    look: tuple[Page, Seen, tuple[str, str]], address: str, names: dict[str, str]
) -> None:
    page, seen, (first, second) = look
    seen.faults.clear()
    page.set_viewport_size(DESK)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=first)  # type: ignore[arg-type]
    page.goto(address.format(**names))
    page.wait_for_function("() => !document.querySelector('.htmx-request')")  # what comes after the page
    assert violations(page) == []
    before = page.evaluate(GROUND)
    page.emulate_media(color_scheme=second)  # type: ignore[arg-type]
    assert page.evaluate(GROUND) != before
    assert violations(page, COLOURS) == []
    for size in (DESK, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        fits = "width => document.documentElement.scrollWidth <= width"  # once charts have followed the window
        page.wait_for_function(fits, arg=size["width"], timeout=5_000)
    if address == "/ui/none":
        seen.expect("404")
    assert seen.faults == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_sign_in_is_open_to_everybody(chromium: Browser, server: BrowserServer, theme: str) -> None:
    with watched(chromium, server, color_scheme=theme, locale="zh-CN" if theme == "dark" else "en-US") as (page, seen):
        page.goto("/ui/sign-in")
        assert violations(page) == []
        assert seen.faults == []


def violations(page: Page, options: dict[str, list[str]] | None = None) -> list[list[str]]:
    """Each with the elements it is of. Only these come out of the page: what axe tells of all else is megabytes."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found: list[list[str]] = page.evaluate(FIND, {"resultTypes": ["violations"], **(options or {})})
    return found


def test_a_violation_is_found(page: Page) -> None:
    page.goto("/ui/sign-in")
    page.evaluate("document.body.append(document.createElement('img'))")
    assert ["image-alt", "<img>"] in violations(page)


def test_navigation_is_read() -> None:
    assert {"/", "/ui/keys", "/ui/health", "/ui/evaluations"} <= set(addresses())
