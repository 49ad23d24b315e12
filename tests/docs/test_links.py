"""Links in the documentation lead somewhere, and every decision page is complete, dated and in the index.

Headings become anchors by GitHub's rules. Links in code are ignored where the code is fenced or between backticks.

Not covered: links to other sites, and anchors in files that are not Markdown.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DECISIONS = REPOSITORY / "docs" / "decisions"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
DECISION_PAGES = [page for page in sorted(DECISIONS.glob("*.md")) if page.name != "README.md"]
PARTS = ["Decision", "Why", "Also considered"]

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1`*~*\s*$", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^ {0,3}\[[^\]]+\]:\s*(\S+)|\b(?:href|src)=\"([^\"]+)\"", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)  # https:, mailto:


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", DECISION_PAGES, ids=name)
def test_decision_page_is_complete_dated_and_listed(page: Path) -> None:
    index = (DECISIONS / "README.md").read_text("utf-8")
    latest = datetime.now(UTC).date() + timedelta(days=1)  # it may be tomorrow already where the page was written
    assert list(faults(page, index, latest)) == []


def test_there_are_decision_pages() -> None:
    assert len(DECISION_PAGES) > 20


@pytest.mark.parametrize(
    ("link", "broken"),
    [
        ("[a](other.md)", []),
        ("[a](other.md#two-words-its-code)", []),
        ("[a](other.md#same-1)", []),
        ("[a](#here)", []),
        ("[a](folder/)", []),
        ("[a](https://example.com/none)", []),
        ("`[a](none.md)`", []),
        ("```\n[a](none.md)\n```", []),
        ("[a](none.md)", ["none.md"]),
        ('[a](none.md "title")', ["none.md"]),
        ("[a\nb](none.md)", ["none.md"]),
        ("[a][b]\n\n[b]: none.md", ["none.md"]),
        ('<img src="none.svg">', ["none.svg"]),
        ("![a](none.svg)", ["none.svg"]),
        ("[a](other.md#none)", ["other.md#none"]),
        ("[a](other.md#same-2)", ["other.md#same-2"]),
        ("[a](other.md#in-code)", ["other.md#in-code"]),
        ("[a](#none)", ["#none"]),
        ("[a](/other.md)", ["/other.md"]),
        ("* item\n\n    [a](none.md)\n", ["none.md"]),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, link: str, broken: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    other = "# Two words: its `code`\n\n## Same\n\n## Same\n\n```sh\n# in code\n```\n"
    (tmp_path / "other.md").write_text(other, "utf-8")
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n{link}\n", "utf-8")
    assert list(broken_links(page)) == broken


WHOLE = "# Is it?\n\n## Decision\n\nYes.\n\n## Why\n\nIt is.\n\n## Also considered\n\nNo.\n"


@pytest.mark.parametrize(
    ("file", "text", "index", "fault"),
    [
        ("2026-01-31-is-it.md", WHOLE, "[Is it?](2026-01-31-is-it.md)", None),
        ("2026-02-01-is-it.md", WHOLE, "[Is it?](2026-02-01-is-it.md)", "the date is in the future"),
        ("2026-01-32-is-it.md", WHOLE, "[Is it?](2026-01-32-is-it.md)", "the name is not YYYY-MM-DD-short-question.md"),
        ("is-it.md", WHOLE, "[Is it?](is-it.md)", "the name is not YYYY-MM-DD-short-question.md"),
        ("2026-01-31-is-it.md", WHOLE, "", "the index lacks [Is it?](2026-01-31-is-it.md)"),
        (
            "2026-01-31-is-it.md",
            WHOLE,
            "[Is it not?](2026-01-31-is-it.md)",
            "the index lacks [Is it?](2026-01-31-is-it.md)",
        ),
        (
            "2026-01-31-is-it.md",
            WHOLE.replace("# Is it?", "# It is"),
            "[It is](2026-01-31-is-it.md)",
            "the title is not a question",
        ),
        (
            "2026-01-31-is-it.md",
            WHOLE.replace("## Why\n\n", ""),
            "[Is it?](2026-01-31-is-it.md)",
            f"the parts are not {PARTS}",
        ),
        (
            "2026-01-31-is-it.md",
            WHOLE.replace("It is.", ""),
            "[Is it?](2026-01-31-is-it.md)",
            "the part Why is empty",
        ),
    ],
)
def test_a_fault_of_a_decision_page_is_found(
    tmp_path: Path, file: str, text: str, index: str, fault: str | None
) -> None:
    page = tmp_path / file
    page.write_text(text, "utf-8")
    assert list(faults(page, index, date(2026, 1, 31))) == ([] if fault is None else [fault])


def broken_links(page: Path) -> Iterator[str]:
    """Targets of the page's relative links that name no file, or no heading of the Markdown file that they name."""
    for match in LINK.finditer(INLINE_CODE.sub("", without_code_blocks(page.read_text("utf-8")))):
        link = next(group for group in match.groups() if group)
        if not (ELSEWHERE.match(link) or leads_somewhere(link, page)):
            yield link


def leads_somewhere(link: str, page: Path) -> bool:
    path, _, anchor = unquote(link).partition("#")
    target = page.parent / path if path else page
    if path.startswith("/") or not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target.read_text("utf-8"))


def anchors(text: str) -> set[str]:
    """GitHub's anchors of a Markdown text: of two equal headings the second one ends with -1."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(without_code_blocks(text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{count}" if count else slug for slug, most in found.items() for count in range(most + 1)}


def without_code_blocks(text: str) -> str:
    return FENCE.sub("", text)


def faults(page: Path, index: str, latest: date) -> Iterator[str]:
    """What is wrong with a decision page; its date must not be after `latest`."""
    text = page.read_text("utf-8")
    day = page_date(page)
    if day is None:
        yield "the name is not YYYY-MM-DD-short-question.md"
    elif day > latest:
        yield "the date is in the future"
    title = text.partition("\n")[0].removeprefix("# ")
    if not (text.startswith("# ") and title.endswith("?")):
        yield "the title is not a question"
    if f"[{title}]({page.name})" not in index:
        yield f"the index lacks [{title}]({page.name})"
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    if parts[::2] != PARTS:
        yield f"the parts are not {PARTS}"
    for part, body in zip(parts[::2], parts[1::2], strict=True):
        if not body.strip():
            yield f"the part {part} is empty"


def page_date(page: Path) -> date | None:
    match = re.fullmatch(r"(\d{4}-\d{2}-\d{2})(?:-[a-z0-9]+)+\.md", page.name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None
