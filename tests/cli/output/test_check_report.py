"""A check's report in a terminal: verdict, counts, findings and distributions, at three widths."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import JOKES
from tests.cli.output.conftest import Printed, widest, words

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.file_report import Report
from tunesmith.check.rules.leaks import find_leaks
from tunesmith.cli.bases import LocalBase, weights_missing
from tunesmith.cli.output.check_report import error_count, print_leaks, print_report
from tunesmith.cli.output.findings import print_findings
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import finding

ROW = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}) + "\n"


def file_of(tmp_path: Path, text: str, name: str = "rows.jsonl") -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


@pytest.mark.parametrize("width", [40, 80, 200])
def test_report_fits_and_says_the_same_at_any_width(
    printed: Printed, checked: Report, local: LocalBase, width: int
) -> None:
    shown = printed(width, print_report, checked, local, 20)
    assert widest(shown) <= width
    said = words(shown)
    assert said.startswith("weather-jokes.jsonl ✓ ready to train")
    for part in ("12 chat", "12 system, 12 user, 12 assistant", "897 an epoch as smollm2-135m-instruct counts"):
        assert part in said


def test_distributions_have_a_line_for_each_count(printed: Printed, checked: Report, local: LocalBase) -> None:
    lines = printed(80, print_report, checked, local, 20).splitlines()
    table = [line.split() for line in lines[[line.split()[:1] for line in lines].index(["min"]) :]]
    assert table[0] == ["min", "p5", "median", "p95", "max"]
    assert [row[:-5] for row in table[1:]] == [
        ["messages", "a", "row"],
        ["tokens", "a", "row", "(OpenAI)"],
        ["learned", "tokens", "a", "row"],
        ["tokens", "a", "row", "(base)"],
    ]
    assert table[1][-5:] == ["3"] * 5
    assert int(table[2][-5]) <= int(table[2][-3]) <= int(table[2][-1])


def test_missing_weights_are_named_with_the_command_that_gets_them(printed: Printed, absent: LocalBase) -> None:
    report = check_file(JOKES)
    shown = words(printed(200, print_report, report, absent, 20))
    assert "smollm2-135m-instruct is not here to count: tunesmith models pull smollm2-135m-instruct" in shown
    assert "(base)" not in shown
    assert weights_missing(absent).endswith("Get it: tunesmith models pull smollm2-135m-instruct")


def test_counts_of_a_sample_carry_their_margin(printed: Printed, checked: Report, local: LocalBase) -> None:
    assert checked.base is not None
    sampled = replace(checked, base=replace(checked.base, exact=False, rows=4000, margin=0.0123))
    assert "counts (±1.2%, from 4,000 rows)" in words(printed(200, print_report, sampled, local, 20))
    assert "±" not in printed(200, print_report, checked, local, 20)


def test_languages_are_listed_with_their_shares(printed: Printed, checked: Report, local: LocalBase) -> None:
    sections: JsonObject = {"languages": {"shares": {"English": 0.5, "Chinese": 0.25, "[red]": 0.25}}}
    shown = printed(200, print_report, replace(checked, sections=sections), local, 20)
    assert "English 50%, Chinese 25%, [red] 25%" in shown
    assert "languages" not in printed(200, print_report, replace(checked, sections={}), local, 20)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_errors_come_with_line_place_and_fix(printed: Printed, local: LocalBase, tmp_path: Path, width: int) -> None:
    row = ROW.replace('"user"', '"usr"')
    report = check_file(file_of(tmp_path, ROW * 9 + row + "{broken\n"), CheckOptions(renderer=local.renderer))
    shown = printed(width, print_report, report, local, 20)
    assert widest(shown) <= width
    said = words(shown)
    assert f"✗ {error_count(report)}" in said
    assert "2 of them faulty" in said
    assert "line 11" in said
    if width == 200:
        found = next(one for one in report.errors if one.line == 10)
        assert f"line 10 {found.path}: {found.message} {found.fix}" in said


def test_one_error_and_one_warning_are_singular(printed: Printed, checked: Report, local: LocalBase) -> None:
    counts = {"invalid_json": 1, "duplicate_row": 1}
    report = replace(checked, counts=counts, errors=(finding("invalid_json", 3, "Broken."),))
    said = words(printed(200, print_report, report, local, 20))
    assert "✗ 1 error, 1 warning rows" in said


def test_file_of_no_known_kind_is_said(printed: Printed, local: LocalBase, tmp_path: Path) -> None:
    report = check_file(file_of(tmp_path, '{"a": 1}\n' * 10), CheckOptions(renderer=local.renderer))
    assert "10 of no known kind, 10 of them faulty" in words(printed(200, print_report, report, local, 20))


def test_names_and_texts_of_a_file_cannot_rule_the_terminal(printed: Printed, local: LocalBase, tmp_path: Path) -> None:
    path = file_of(tmp_path, ROW.replace('"user"', '"[blink]\\u001b[2J"') * 10, "a[red]b\x1b[2J.jsonl")
    shown = printed(200, print_report, check_file(path, CheckOptions(renderer=local.renderer)), local, 20)
    assert "\x1b" not in shown
    assert "a[red]b␛[2J.jsonl" in shown
    assert "[blink]" in shown


def test_findings_beyond_the_limit_are_counted(printed: Printed) -> None:
    found = tuple(finding("invalid_json", line, f"Fault {line}.") for line in range(1, 31))
    said = words(printed(200, print_findings, "errors", found, 250, 2))
    assert "Fault 1." in said
    assert "Fault 2." in said
    assert "Fault 3." not in said
    assert "and 248 more (--findings 100, or --json)" in said


def test_findings_of_nothing_print_nothing(printed: Printed) -> None:
    assert printed(80, print_findings, "errors", (), 0, 10) == ""


def test_leaks_are_listed_by_the_validation_files_lines(printed: Printed, tmp_path: Path) -> None:
    lines = JOKES.read_text("utf-8").splitlines(keepends=True)
    leaks = find_leaks(JOKES, file_of(tmp_path, ROW + lines[4]))
    said = words(printed(200, print_leaks, leaks, 20))
    assert said.startswith("in the validation file line 2 ")
    assert "line 5 of the training file" in said
    none = find_leaks(JOKES, file_of(tmp_path, ROW))
    assert printed(200, print_leaks, none, 20).strip() == "No row of the validation file appears in this file."
