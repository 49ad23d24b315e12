"""What the check says that `tunesmith fix` would do, against what it does."""

import json
from pathlib import Path

import pytest

from tunesmith.check.file_check import check_file
from tunesmith.check.fix.fixed_file import fix_file
from tunesmith.check.fix.preview import MOST_BYTES, fix_sentence, with_fix
from tunesmith.cli.output.html_report import report_html

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def rows(*made: object) -> str:
    return "".join(json.dumps(one) + "\n" for one in made)


def numbered(number: int, role: str = "assistant") -> object:
    return {"messages": [{"role": "user", "content": f"Say {number}"}, {"role": role, "content": "It is said."}]}


FILES = {
    "roles": (
        rows(*(numbered(n, "Assistant") for n in range(12))),
        "would change 12 rows: 12 x ",
    ),
    "some": (rows(*(numbered(n) for n in range(9)), numbered(10, "Assistant")), "would change 1 row: 1 x "),
    "duplicates": (rows(*[GOOD] * 3, numbered(1)), "would remove 2 rows: duplicate or empty"),
    "commas": (rows(*(numbered(n) for n in range(10))).replace("\n", ",\n"), "would change 10 rows: 10 x "),
    "broken": (rows(numbered(1, "Assistant"), numbered(2)) + "[3]\n", "; set aside 1 row that need a hand"),
    "array": (json.dumps([numbered(n) for n in range(10)]), "would change 10 rows: 10 x "),
}


@pytest.mark.parametrize("name", FILES)
def test_report_says_what_fix_would_change_and_changes_nothing(tmp_path: Path, name: str) -> None:
    text, said = FILES[name]
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    report = with_fix(check_file(path), path)
    sentence = fix_sentence(report)
    assert sentence is not None
    assert sentence.startswith("`tunesmith fix rows.jsonl` would ")
    assert said in sentence
    assert "<code>tunesmith fix rows.jsonl</code> would" in report_html(report)
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]
    section = report.to_json()["fix"]
    result = fix_file(path, tmp_path / "fixed.jsonl")
    assert isinstance(section, dict)
    assert (section["removed_rows"], section["rejected_rows"]) == (result.duplicates + result.empty, result.rejected)


@pytest.mark.parametrize("text", [rows(*map(numbered, range(10))), "", "no rows\n"], ids=["sound", "empty", "foreign"])
def test_nothing_is_said_of_a_file_that_fix_would_leave(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    report = with_fix(check_file(path), path)
    assert fix_sentence(report) is None
    assert "fix" not in report.to_json()


def test_large_file_is_not_fixed_for_the_sake_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    long = {"messages": [{"role": "Assistant", "content": "x" * MOST_BYTES}]}
    path.write_text(rows(long))
    assert fix_sentence(with_fix(check_file(path), path)) is None
