"""The rows that a fix shows before and after."""

from pathlib import Path

from tunesmith.check.fix.fix_result import RowChange
from tunesmith.check.fix.fixed_file import FixOptions, fix_file

PLAIN = b'{"messages":[{"role":"user","content":"Q%d"},{"role":"assistant","content":"A"}]}\n'
KEYED = PLAIN.replace(b"}\n", b',"id":1}\n')


def shown(folder: Path, content: bytes, show: int = 30) -> list[RowChange]:
    source = folder / "rows.jsonl"
    source.write_bytes(content)
    return fix_file(source, folder / "fixed.jsonl", FixOptions(show=show)).shown


def test_a_changed_row_is_shown_as_it_was_and_is(tmp_path: Path) -> None:
    [change] = shown(tmp_path, PLAIN % 1 + (KEYED % 2).replace(b'":', b'" : '))
    before, after = (KEYED % 2).rstrip(), (PLAIN % 2).rstrip()  # white space between keys is no change
    assert change == RowChange(2, before, after, ("dropped key id",))


def test_rows_that_are_left_out_are_shown_without_an_after(tmp_path: Path) -> None:
    found = shown(tmp_path, PLAIN % 1 + PLAIN % 1 + b"{}\n")
    assert [(one.line, one.after) for one in found] == [(2, None), (3, None)]
    assert [one.changes for one in found] == [("left out: repeats an earlier row",), ("left out: empty",)]


def test_alike_rows_do_not_crowd_out_others(tmp_path: Path) -> None:
    rows = b"".join(KEYED % n for n in range(40)) + PLAIN % 1
    assert [one.line for one in shown(tmp_path, rows)] == [1, 2, 3, 41]


def test_a_repaired_line_is_shown_as_it_stood(tmp_path: Path) -> None:
    broken = (PLAIN % 1).replace(b"}]}", b"},]}")
    [change] = shown(tmp_path, broken)
    assert (change.before + b"\n", change.after) == (broken, (PLAIN % 1).rstrip())


def test_nothing_is_shown_unless_it_is_wanted(tmp_path: Path) -> None:
    assert shown(tmp_path, KEYED % 1, show=0) == []
