"""A table stands in one document: no row of at least three cells with text is in two of them."""

import re
from collections import defaultdict
from collections.abc import Mapping

from tests.docs.test_links import PAGES, name, without_code_blocks

CHECK = "the decision rests on these figures, so it keeps them when docs/benchmarks.md has newer ones"
ALLOWED = {  # how a row begins -> why two documents may have it
    "50 MB | 7.1 MB/s | 75.4 MB/s": CHECK,
    "500 MB | 5.8 MB/s | 71.8 MB/s": CHECK,
}
CELL = re.compile(r"(?<!\\)\|")


def rows_kept_twice(pages: Mapping[str, str]) -> dict[str, list[str]]:
    """A row's cells, joined -> the pages that have it, where several do."""
    found: dict[str, list[str]] = defaultdict(list)
    for page, text in pages.items():
        for row in dict.fromkeys(rows(text)):
            found[row].append(page)
    return {row: pages for row, pages in found.items() if len(pages) > 1 and not row.startswith(tuple(ALLOWED))}


def rows(text: str) -> list[str]:
    """The rows of a page's tables, without headings: those say what is in the cells, and may be alike."""
    lines = without_code_blocks(text).splitlines()
    tables = [
        line
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and after[:4] != "| --"
    ]
    cells = [[cell.strip() for cell in CELL.split(line.strip().strip("|"))] for line in tables]
    return [" | ".join(row) for row in cells if sum(re.search(r"\w", cell) is not None for cell in row) >= 3]


def test_no_row_stands_in_two_documents() -> None:
    pages = {name(page): page.read_text("utf-8") for page in PAGES}
    assert sum(len(rows(text)) for text in pages.values()) > 300
    assert rows_kept_twice(pages) == {}


def test_a_row_that_stands_twice_is_found() -> None:
    table = "| a | b | |\n| --- | --- | --- |\n| x | 1 | y \\| z |\n"
    other = table.replace("| a | b |", "| c | d |").replace("| x | 1 |", "|x|1|")
    assert rows_kept_twice({"one.md": table, "two.md": other}) == {"x | 1 | y \\| z": ["one.md", "two.md"]}


def test_headings_short_rows_and_code_may_be_alike() -> None:
    table = "| a | b | c |\n| --- | --- | --- |\n| x | 1 | |\n"
    code = "```\n| x | y | z |\n```\n"
    assert rows_kept_twice({"one.md": table + code, "two.md": table + code}) == {}
