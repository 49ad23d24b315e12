"""What every page has: signing in and out, language, theme, and a key whose secret is shown once."""

import re

from playwright.sync_api import Browser, Page, expect
from tests.web.browser.conftest import Objects, Seen, sign_in, watched
from tests.web.browser.server import BrowserServer


def test_sign_in_and_out_by_keyboard_alone(chromium: Browser, server: BrowserServer) -> None:
    with watched(chromium, server) as (page, seen):
        page.goto("/ui/health")
        expect(page).to_have_url(re.compile(r"/ui/sign-in\?next="))
        for _ in range(3):  # the link to the content, then the field
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "key":
                break
        page.keyboard.type(server.key)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{server.url}/ui/health")
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        expect(page.locator(".skip")).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        out = page.get_by_role("button", name="Sign out")
        for _ in range(40):
            page.keyboard.press("Shift+Tab")
            if out.evaluate("one => one === document.activeElement"):
                break
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{server.url}/ui/sign-in")
        page.go_back()
        expect(page.locator("#key")).to_be_visible()  # nothing of the pages is left to look at
        assert seen.faults == []


def test_a_wrong_key_is_told_how_to_get_one(chromium: Browser, server: BrowserServer) -> None:
    with watched(chromium, server) as (page, seen):
        page.goto("/ui/sign-in")
        page.fill("#key", "sk-tunesmith-wrong")
        page.press("#key", "Enter")
        expect(page.get_by_role("alert")).to_contain_text("tunesmith keys create NAME")
        seen.expect("401")
        assert seen.faults == []


def test_a_link_of_the_command_signs_in(chromium: Browser, server: BrowserServer) -> None:
    with watched(chromium, server) as (page, seen):
        headers = {"authorization": f"Bearer {server.key}"}
        path = page.request.post("/ui/links", headers=headers).json()["path"]
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        assert seen.faults == []


def test_language_and_theme_stay(page: Page) -> None:
    page.goto("/ui/health")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.get_by_role("link", name="Dark or light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light
    page.get_by_role("link", name="中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("运行状况")
    page.goto("/ui/keys")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("heading", level=1)).to_have_text("API 密钥")


def test_times_are_in_the_viewers_zone(chromium: Browser, server: BrowserServer) -> None:
    with watched(chromium, server, timezone_id="Asia/Shanghai", locale="en-GB") as (page, _):
        sign_in(page, server.key)
        page.goto("/ui/keys")
        first = page.locator("#key-list time").first
        expect(first).to_have_attribute("title", re.compile("UTC$"))
        hour = int((first.get_attribute("datetime") or "")[11:13])
        assert f"{(hour + 8) % 12 or 12}:" in first.inner_text()


def test_a_secret_is_shown_once(page: Page) -> None:
    page.goto("/ui/keys")
    page.fill("#name", "from the browser")
    page.select_option("#role", "read-only")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret")
    expect(secret).to_be_focused()
    value = secret.inner_text()
    assert re.fullmatch(r"sk-tunesmith-\w{20,}", value)
    row = page.locator("#key-list tr", has_text="from the browser")
    expect(row).to_contain_text(f"…{value[-4:]}")
    assert page.url.endswith("/ui/keys")
    page.get_by_role("link", name="Health").click()
    page.wait_for_url("**/ui/health")
    page.go_back()
    expect(row).to_be_visible()
    assert value not in page.content()
    page.reload()
    assert value not in page.content()
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_have_text("API keys")


def test_what_is_wrong_is_said_in_its_place(page: Page, seen: Seen) -> None:
    page.goto("/ui/keys")
    page.fill("#name", "   ")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#made").get_by_role("alert")).to_contain_text("name")
    seen.expect("400")


def test_flips_are_paged_without_a_new_page(page: Page, objects: Objects) -> None:
    page.goto(f"/ui/evaluations/{objects.job}")
    page.evaluate("window.kept = true")
    page.locator("#flips").get_by_role("link", name=re.compile("^Lost")).click()
    expect(page.locator("#flips [aria-current]")).to_contain_text("Lost")
    assert page.evaluate("window.kept")
    page.reload()
    expect(page.locator("#flips [aria-current]")).to_contain_text("Lost")
