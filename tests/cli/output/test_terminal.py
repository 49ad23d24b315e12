"""Numbers as people read them, tables, and which of the two streams gets what."""

import json
import time

import pytest
from tests.cli.output.conftest import Printed, widest

from tunesmith.cli.output.terminal import (
    PIPE_COLUMNS,
    ago,
    duration,
    facts,
    listing,
    note,
    out,
    plural,
    print_json,
    print_plain,
    print_table,
    size,
    warn,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (125, "2m05s"),
        (3599, "59m59s"),
        (3599.6, "1h00m"),
        (3720, "1h02m"),
        (90_000, "25h00m"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2449, "2.4 kB"),
        (98_100_000, "98.1 MB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (999_999_999, "1.0 GB"),
        (5_000_000_000_000, "5000.0 GB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_plural() -> None:
    assert [plural(count, "row") for count in (0, 1, 2, 1200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]


def test_ago_is_a_span_for_two_days_and_a_date_from_then_on() -> None:
    now = int(time.time())
    assert ago(now - 65) in ("1m05s ago", "1m06s ago")
    assert ago(now + 30) == "0s ago"  # a server whose clock is ahead
    assert ago(now - 47 * 3600).endswith("h00m ago")
    long_ago = now - 72 * 3600
    assert ago(long_ago) == time.strftime("%Y-%m-%d", time.localtime(long_ago))


def test_json_is_readable_and_keeps_other_scripts(printed: Printed) -> None:
    value = {"text": "天津 \x1b[31m", "number": 1.5}
    shown = printed(80, print_json, value)
    assert json.loads(shown) == value
    assert "天津" in shown
    assert "\x1b" not in shown
    assert shown.count("\n") == 4


def test_json_lines_have_one_line_each(printed: Printed) -> None:
    def both() -> None:
        print_json({"a": [1, 2]}, indent=None)
        print_json({"b": "x\ny"}, indent=None)

    assert [json.loads(line) for line in printed(80, both).splitlines()] == [{"a": [1, 2]}, {"b": "x\ny"}]


def test_plain_text_is_neither_folded_nor_read_as_markup(printed: Printed) -> None:
    text = "[bold]tunesmith[/bold] " + "x" * 300
    assert printed(40, print_plain, text) == text + "\n"


@pytest.mark.parametrize(("function", "start"), [(note, ""), (warn, "warning: ")])
def test_notes_and_warnings_go_to_stderr_as_they_are(
    printed: Printed, capfd: pytest.CaptureFixture[str], function: object, start: str
) -> None:
    text = "a path with [brackets] and " + "words " * 40

    def call() -> None:
        assert callable(function)
        function(text)
        said = capfd.readouterr()
        assert said.out == ""
        assert said.err == f"{start}{text}\n"

    printed(40, call)


def test_names_with_colons_are_no_emoji(printed: Printed, capfd: pytest.CaptureFixture[str]) -> None:
    def show() -> None:
        name = "ft:base:acme:fire:AbCdEfGh"
        out().print(name)
        out().print(facts({"model": name}))
        note(name)
        warn(name)
        said = capfd.readouterr()
        assert (said.out.count(name), said.err.count(name)) == (2, 2)

    printed(80, show)


def test_output_to_a_pipe_has_room(printed: Printed) -> None:
    row = "word " * 60
    shown = printed(None, lambda: out().print(row))
    assert 80 < widest(shown) <= PIPE_COLUMNS
    assert widest(printed(80, lambda: out().print(row))) <= 80


def test_first_column_of_a_listing_is_never_broken(printed: Printed) -> None:
    table = listing("id", "what", "how much", numbers=1)
    table.add_row("ftjob-" + "x" * 24, "a few words that may be folded", "7")
    table.add_row("ftjob-y", "short", "1,000")
    narrow = printed(50, lambda: out().print(table))
    assert "ftjob-" + "x" * 24 in narrow
    assert widest(narrow) <= 50
    lines = [line.rstrip() for line in printed(200, lambda: out().print(table)).splitlines()]
    assert len({len(line) for line in lines}) == 1  # the numbers end in one column
    assert lines[1].endswith("      7")


NAME = "ft:smollm2-135m-instruct:personal:weather:AbCd1234"
ID = "ftjob-" + "x" * 24


def test_facts_fold_texts_and_never_break_what_people_copy(printed: Printed) -> None:
    values = {"rows": "12", "text": "some words " * 9, "model": NAME, "job": ID, "hint": f"see (tunesmith chat {NAME})"}
    shown = printed(40, lambda: print_table(facts(values)))
    lines = shown.splitlines()
    assert lines[0] == "rows   12"
    assert lines[1] == "text   some words some words some words"
    assert lines[lines.index("model") + 1] == NAME
    assert f"job    {ID}" in lines
    assert lines[-2:] == ["hint", f"see (tunesmith chat {NAME})"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_ids_in_a_listing_are_whole_at_every_width(printed: Printed, width: int) -> None:
    table = listing("file", "size", "status", "purpose", "created", "jobs", right=("size",))
    table.add_row("file-" + "y" * 24, "3.1 kB", "processed", "fine-tune", "3m05s ago", ID)
    shown = printed(width, lambda: print_table(table))
    assert "file-" + "y" * 24 in shown
    assert ID in shown


def test_lines_of_a_table_in_a_pipe_end_without_blanks(printed: Printed) -> None:
    table = listing("job", "status")
    table.add_row(ID, "[green]succeeded[/green]")
    table.add_row("ftjob-y", "queued")
    lines = printed(200, lambda: print_table(table)).splitlines()
    assert lines == [f"job{' ' * 29}status", f"{ID}  succeeded", f"ftjob-y{' ' * 25}queued"]
    assert printed(80, lambda: print_table(facts({"a": "b", "longer": "c"}))) == "a       b\nlonger  c\n"


def test_colours_come_only_where_they_are_wanted(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    def show() -> None:
        out().print("[red]fault[/red]")

    assert printed(80, show) == "fault\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert printed(80, show) == "\x1b[31mfault\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed(80, show) == "fault\n"
