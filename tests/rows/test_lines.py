"""A file cut into chunks of whole lines, and what is no JSONL at all."""

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.rows import lines
from tunesmith.rows.lines import FIRST_CHUNK_BYTES, SNIFF_BYTES, Chunk, chunks, read_chunk, sniff

ROW = b'{"messages": [{"role": "user", "content": "a"}]}'


def file_of(folder: Path, content: bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    return path


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 50), st.integers(20, 60))
def test_chunks_are_whole_lines_that_cover_the_file(parts: list[bytes], size: int, longest: int) -> None:
    content = b"\n".join(parts)
    with TemporaryDirectory() as folder:
        path = file_of(Path(folder), content)
        found = list(chunks(path, chunk_bytes=size, max_line=longest))
        start = 3 if content.startswith(b"\xef\xbb\xbf") else 0
        line = 1
        for chunk in found:
            data = read_chunk(path, chunk)
            assert (chunk.offset, chunk.first_line) == (start, line)
            assert data.endswith(b"\n") or chunk is found[-1]
            assert chunk.too_long <= (len(data) > longest)
            if chunk.too_long:
                assert data.count(b"\n") <= 1
            start, line = start + chunk.length, line + data.count(b"\n")
        assert start == max(len(content), start if not found else 0)


def test_the_first_chunk_is_small(tmp_path: Path) -> None:
    path = file_of(tmp_path, (ROW + b"\n") * 5_000)
    first, second, *_ = chunks(path)
    assert first.length <= FIRST_CHUNK_BYTES < second.length
    assert second.first_line == 1 + first.length // (len(ROW) + 1)


def test_a_first_line_longer_than_the_first_chunk_is_whole(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"x" * (FIRST_CHUNK_BYTES + 1) + b"\ny\n")
    assert [(chunk.first_line, chunk.too_long) for chunk in chunks(path)] == [(1, False), (2, False)]


def test_a_too_long_line_is_measured_and_not_held(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n" + b"b" * 100 + b"\nc\n")
    found = list(chunks(path, chunk_bytes=10, max_line=50))
    assert found == [Chunk(0, 2, 1), Chunk(2, 101, 2, too_long=True), Chunk(103, 2, 3)]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b" \n\r\n", "empty_file"),
        (gzip.compress(ROW, mtime=0), "compressed_file"),
        (b"PK\x03\x04rest", "compressed_file"),
        (b"BZh91AY", "compressed_file"),
        (b"\xfd7zXZ\x00rest", "compressed_file"),
        (b"\x28\xb5\x2f\xfdrest", "compressed_file"),
        (ROW.decode().encode("utf-16"), "wrong_encoding"),
        (ROW.decode().encode("utf-16-le"), "wrong_encoding"),
        (ROW.decode().encode("utf-32"), "wrong_encoding"),
        (b"PAR1\x15\x04", "not_jsonl"),
        (b"[" + ROW + b"]", "not_jsonl"),
        (b"[\n" + ROW + b"\n]", "not_jsonl"),
        (json.dumps({"messages": []}, indent=2).encode(), "not_jsonl"),
        (b"prompt,completion\na,b\n", "not_jsonl"),
        (b"Dear reader,\nthis is prose.\n", "not_jsonl"),
        (b"\x00\x01\x02\x03\x04" * 20, "not_jsonl"),
    ],
)
def test_what_is_no_jsonl_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    (found,) = sniff(file_of(tmp_path, content))
    assert (found.code, found.severity) == (code, "error")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg">\n<path/>\n</svg>\n', "The file is XML or HTML"),
        (b'<?xml version="1.0"?>\n<a/>\n', "The file is XML or HTML"),
        (b"PAR1\x15\x04", "The file is a Parquet table"),
        (b"\x00\x01\x02\x03\x04" * 20, "The file is binary"),
    ],
)
def test_what_fix_cannot_read_either_is_not_sent_to_it(tmp_path: Path, content: bytes, said: str) -> None:
    (found,) = sniff(file_of(tmp_path, content))
    assert said in found.message
    assert found.fix == "Write the rows as JSON Lines with the program that made them."


def test_text_with_the_marks_of_a_template_is_no_markup(tmp_path: Path) -> None:
    (found,) = sniff(file_of(tmp_path, b"<s>[INST] Hi [/INST] Hello</s>\n"))
    assert "Line 1 is not a dictionary" in found.message


@pytest.mark.parametrize(
    "content",
    [
        ROW,
        ROW + b"\n" + ROW,
        b"\n\n" + ROW,
        b"{broken\n" + ROW,  # one broken row among others is the row's fault
        b"broken\n" + ROW,
        b"[]\n",
        b"[1, 2]\n" + ROW,
        b"7\n",
        b" " * (SNIFF_BYTES + 10) + b"\n" + ROW,
    ],
)
def test_what_may_hold_rows_is_read(tmp_path: Path, content: bytes) -> None:
    assert sniff(file_of(tmp_path, content)) == []


def test_a_byte_order_mark_is_a_warning(tmp_path: Path) -> None:
    (found,) = sniff(file_of(tmp_path, b"\xef\xbb\xbf" + ROW))
    assert (found.code, found.severity, found.line) == ("byte_order_mark", "warning", 1)


def test_what_is_quoted_of_a_foreign_file_is_short_and_printable(tmp_path: Path) -> None:
    (found,) = sniff(file_of(tmp_path, b"\x1b[31m" + "\u202e".encode() + b"x" * 500))
    assert len(found.message) < 250
    assert found.message.isprintable()


def test_the_limit_of_a_line_is_above_a_chunk() -> None:
    assert lines.MAX_LINE_BYTES > lines.CHUNK_BYTES > FIRST_CHUNK_BYTES
