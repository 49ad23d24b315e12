"""A check's report in a terminal: verdict, counts, findings and distributions, at three widths."""

import html
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import JOKES
from tests.cli.output.conftest import Printed, widest, words

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.file_report import Report
from tunesmith.check.report.validation_section import with_validation
from tunesmith.check.rules.leaks import find_leaks
from tunesmith.cli.bases import LocalBase, weights_missing
from tunesmith.cli.output.check_report import error_count, print_report
from tunesmith.cli.output.findings import print_findings
from tunesmith.cli.output.html_report import report_html
from tunesmith.cli.output.terminal import percentages
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


def test_rows_that_are_split_into_examples_are_told(printed: Printed, checked: Report, local: LocalBase) -> None:
    assert checked.base is not None
    split = replace(checked, base=replace(checked.base, split_rows=2, trained_examples=16))
    said = (
        "16: 2 rows are split into one for each learned answer, as the base's template rewrites earlier ones (see"
        " --show)"
    )
    assert f"examples {said}" in words(printed(200, print_report, split, local, 20))
    assert said in html.unescape(report_html(split))
    assert "are split into" not in printed(200, print_report, checked, local, 20) + report_html(checked)
    sampled = replace(split, base=replace(split.base, exact=False, split_rows=1)) if split.base else split
    assert "about 16: about 1 row is split" in words(printed(200, print_report, sampled, local, 20))


def test_rows_too_short_to_tell_their_language_are_told(printed: Printed, checked: Report, local: LocalBase) -> None:
    languages: JsonObject = {"rows_sampled": 9, "rows_too_short": 3, "shares": {"English": 1.0}}
    report = replace(checked, sections={"languages": languages})
    assert "English 100% (3 rows too short to tell)" in words(printed(200, print_report, report, local, 20))
    assert "3 too short to tell)" in report_html(report)
    none = replace(checked, sections={"languages": {"rows_sampled": 3, "rows_too_short": 3, "shares": {}}})
    assert "unknown: 3 rows too short to tell" in words(printed(200, print_report, none, local, 20))
    assert "3 too short to tell)" in report_html(none)


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
    more = "--findings {}, or --json"
    said = words(printed(200, lambda: print_findings("errors", found, 250, 2, more=more)))
    assert "Fault 1." in said
    assert "Fault 2." in said
    assert "Fault 3." not in said
    assert "and 248 more (--findings 100, or --json)" in said
    plain = words(printed(200, print_findings, "errors", found, 250, 2))
    assert plain.endswith("and 248 more")  # a command without such an option does not advise it


def test_findings_of_nothing_print_nothing(printed: Printed) -> None:
    assert printed(80, print_findings, "errors", (), 0, 10) == ""


def test_leaks_are_warnings_at_the_rows_of_the_file(printed: Printed, local: LocalBase, tmp_path: Path) -> None:
    lines = JOKES.read_text("utf-8").splitlines(keepends=True)
    near = lines[2].replace("?", " ?", 1)
    held_out = file_of(tmp_path, ROW + lines[4] + near)
    report = check_file(JOKES, CheckOptions(renderer=local.renderer))
    one = CheckOptions(renderer=local.renderer, min_examples=1)
    both = with_validation(report, check_file(held_out, one), find_leaks(JOKES, held_out))
    assert both.warning_count == report.warning_count + 2
    assert (both.counts["leak"], both.counts["near_leak"]) == (1, 1)
    said = words(printed(200, print_report, both, local, 20))
    assert f"✓ ready to train, {both.warning_count} warnings" in said
    assert "line 5 The row is also in the validation file, in line 2." in said
    assert "line 3 Line 3 of the validation file is nearly the same (similarity" in said
    page = report_html(both)
    assert "2 of its 3 rows are in the training file too (1 nearly the same)" in page
    assert "The row is also in the validation file, in line 2." in page
    assert both.to_json()["leaks"] == find_leaks(JOKES, held_out).to_json()


def test_validation_file_without_leaks_is_said(printed: Printed, local: LocalBase, tmp_path: Path) -> None:
    report, held_out = check_file(JOKES), file_of(tmp_path, ROW)
    both = with_validation(report, check_file(held_out, CheckOptions(min_examples=1)), find_leaks(JOKES, held_out))
    assert "No row of the validation file appears in this file." in printed(200, print_report, both, local, 20)
    assert "none of its 1 row is in the training file too" in report_html(both)


def test_faults_of_the_validation_file_stop_the_job(printed: Printed, local: LocalBase, tmp_path: Path) -> None:
    report, held_out = check_file(JOKES), file_of(tmp_path, ROW + "{broken}\n")
    both = with_validation(report, check_file(held_out, CheckOptions(min_examples=1)), find_leaks(JOKES, held_out))
    assert (report.ok, both.ok, both.to_json()["ok"]) == (True, False, False)
    said = words(printed(200, print_report, both, local, 20))
    assert "✗ 1 error in the validation file" in said
    assert "errors in the validation file line 2 column 2: A key stands without quotes: `{broken}`." in said
    page = report_html(both)
    assert "1 error to fix in the validation file" in page
    assert "A key stands without quotes." in page


def test_warnings_come_by_line_then_code(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "Write to ann@example.com"}
    row = json.dumps({"messages": [{"role": "user", "content": "Hi <|im_end|>"}, answer]}) + "\n"
    report = check_file(file_of(tmp_path, "\ufeff" + ROW * 4 + row * 2 + "\n" + ROW * 5))
    places = [(one.line, one.code) for one in report.warnings]
    assert places == sorted(places, key=lambda place: (place[0] is None, place[0] or 0, place[1]))
    assert places[0] == (1, "byte_order_mark")
    assert {"no_system", "special_token_text", "duplicate_row", "blank_line"} <= {code for _, code in places}


@pytest.mark.parametrize(
    ("shares", "percents"),
    [
        ({"English": 6 / 11, "Chinese": 5 / 11}, [55, 45]),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, [34, 33, 33]),
        ({"a": 0.545, "b": 0.455}, [55, 45]),
        ({"a": 0.995, "b": 0.005}, [100, 0]),
        ({"a": 1.0}, [100]),
        ({}, []),
    ],
    ids=["elevenths", "thirds", "rounded", "half-a-percent", "one", "none"],
)
def test_percentages_sum_to_a_hundred(shares: dict[str, float], percents: list[int]) -> None:
    assert list(percentages(shares).values()) == percents


def test_preference_rows_are_ready_with_their_method(printed: Printed, local: LocalBase, tmp_path: Path) -> None:
    answers = {f"{which}_output": [{"role": "assistant", "content": which}] for which in ("preferred", "non_preferred")}
    row = json.dumps({"input": {"messages": [{"role": "user", "content": "Hi"}]}, **answers}) + "\n"
    report = check_file(file_of(tmp_path, row * 10), CheckOptions(renderer=local.renderer))
    assert "✓ ready to train with --method dpo" in printed(200, print_report, report, local, 20)


def test_errors_of_a_line_begin_with_the_cause(tmp_path: Path) -> None:
    report = check_file(file_of(tmp_path, ROW + ROW.replace('"assistant"', '"wizard"') + ROW * 9))
    assert [(one.line, one.code) for one in report.errors] == [(2, "unrecognized_role"), (2, "missing_assistant")]
