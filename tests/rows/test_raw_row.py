"""The loop over the lines of a file, and the reading of rows that is built on it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.rows import lines, raw_row
from tunesmith.rows.parse import BrokenLine
from tunesmith.rows.raw_row import RawRow, iter_lines, iter_rows
from tunesmith.rows.row import RowError, read_rows


def file_of(folder: Path, content: bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [(1, b"")]),
        (b"a", [(1, b"a")]),
        (b"a\n", [(1, b"a")]),
        (b"a\n\nb", [(1, b"a"), (2, b""), (3, b"b")]),
        (b"a\r\nb\r\n", [(1, b"a\r"), (2, b"b\r")]),
        (b"\xef\xbb\xbfa\nb\n", [(1, b"a"), (2, b"b")]),
        ("a\u2028b\x0bc\n".encode(), [(1, "a\u2028b\x0bc".encode())]),  # only \n ends a line
    ],
)
def test_lines_are_numbered_from_one(tmp_path: Path, content: bytes, expected: list[tuple[int, bytes]]) -> None:
    assert [(row.line, row.text) for row in iter_lines(file_of(tmp_path, content))] == expected


def test_rows_are_the_lines_that_are_not_blank(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"1\n\n \t\r\n2\n\x0c\n3")
    assert [(row.line, row.value()) for row in iter_rows(path)] == [(1, 1), (4, 2), (6, 3)]


def test_only_the_lines_asked_for_are_read(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"1\n\n2\n3\n")
    assert [row.line for row in iter_lines(path, {2, 3})] == [2, 3]
    assert [row.line for row in iter_rows(path, {2, 3, 9})] == [3]
    assert list(iter_rows(path, set())) == []


def test_a_line_beyond_the_limit_is_passed_over_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = lines.chunks
    monkeypatch.setattr(raw_row, "chunks", lambda path: cut(path, chunk_bytes=8, max_line=16))
    rows = list(iter_rows(file_of(tmp_path, b"1\n" + b"x" * 50 + b"\n2\n")))
    assert [(row.line, row.text, row.size) for row in rows] == [(1, b"1", 1), (2, None, 51), (3, b"2", 1)]
    assert not rows[1].is_blank
    with pytest.raises(BrokenLine, match="The line has 51 bytes"):
        rows[1].value()
    assert list(iter_rows(tmp_path / "rows.jsonl", {1})) == [RawRow(1, b"1", 1)]


@given(
    st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=30),
    st.integers(1, 20),
    st.booleans(),
)
def test_lines_do_not_depend_on_how_the_file_is_cut(texts: list[bytes], chunk_bytes: int, ended: bool) -> None:
    content = b"\n".join(texts) + (b"\n" if ended else b"")
    expected = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not expected[-1]:
        expected.pop()
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        cut = lines.chunks
        patch.setattr(raw_row, "chunks", lambda path: cut(path, chunk_bytes=chunk_bytes))
        found = list(iter_lines(file_of(Path(folder), content)))
    assert [row.text for row in found] == expected
    assert [row.line for row in found] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"prompt": "a"', "invalid_json"),
        (b'{"prompt": "a", "prompt": "b", "completion": "c"}', "duplicate_key"),
        (b'{"prompt": "\xff"}', "not_utf8"),
        (b"[1]", "not_an_object"),
        (b'{"prompt": "a"}', "missing_key"),
    ],
)
def test_reading_rows_stops_at_the_first_that_cannot_be_used(tmp_path: Path, line: bytes, code: str) -> None:
    good = b'{"prompt": "a", "completion": "b"}'
    reader = read_rows(file_of(tmp_path, b"\n".join([good, b"", line, good])))
    assert next(reader)[0] == 1
    with pytest.raises(RowError, match="line 3") as refused:
        next(reader)
    assert refused.value.code == code
