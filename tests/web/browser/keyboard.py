"""A person without a mouse: everything is reached with Tab."""

import pytest
from playwright.sync_api import Locator, Page, expect

MOST_TABS = 200
FOCUSED = "one => one === document.activeElement"


def reach(page: Page, target: Locator) -> None:
    """Tabs until the target has the focus."""
    expect(target).to_be_visible()
    for _ in range(MOST_TABS):
        if target.evaluate(FOCUSED):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"{target} is not reached with Tab")


def press(page: Page, target: Locator) -> None:
    """Presses a button, or follows a link."""
    reach(page, target)
    page.keyboard.press("Enter")


def write(page: Page, target: Locator, text: str) -> None:
    """Replaces what is in a field."""
    reach(page, target)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def choose(page: Page, target: Locator, option: str) -> None:
    """Chooses an option by its first letters."""
    reach(page, target)
    page.keyboard.type(option)
    expect(target.locator("option:checked")).to_have_text(option)
