"""Every path that docs/architecture.md names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PATH = re.compile(r"`((?:[a-z_0-9]+/)+(?:[a-z_0-9]+\.[a-z]+)?|[a-z_]+\.(?:py|toml))`")


def missing(paths: list[str]) -> list[str]:
    places = (ROOT / "src" / "tunesmith", ROOT)
    return [path for path in paths if not any((place / path).exists() for place in places)]


def test_paths_in_the_text_exist() -> None:
    paths = PATH.findall(TEXT.partition("## Old and new paths")[0])
    assert len(paths) > 40
    assert missing(paths) == []


def test_a_newcomer_finds_ten_answers() -> None:
    table = TEXT.partition("## Where is …?")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+\?) \| `(.+)` \|$", table, re.MULTILINE)
    assert len(rows) >= 10
    assert missing([path for _, path in rows]) == []


def test_new_paths_of_the_table_exist() -> None:
    rows = re.findall(r"^\| `.+` \| `(.+)` \|$", TEXT.partition("## Old and new paths")[2], re.MULTILINE)
    assert len(rows) > 250
    assert missing(rows) == []
