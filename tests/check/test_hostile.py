"""Files made to hurt: a clear error, in bounded time and memory."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.scan import file_scan as checking
from tunesmith.rows.findings import VALUE_CHARS
from tunesmith.rows.lines import chunks

GOOD = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}'

# VmHWM and not ru_maxrss: the latter starts at what the parent held when it forked.
CHECK = """
import re, sys
from pathlib import Path
from tunesmith.check.scan import file_scan as checking
from tunesmith.check.file_check import check_file
report = check_file(Path(sys.argv[1]))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(report.error_count, report.errors[0].code, int(peak.group(1)) // 1024)
"""


@pytest.mark.parametrize("with_line_end", [True, False])
def test_one_line_of_500_mb_is_refused_quickly_in_little_memory(tmp_path: Path, with_line_end: bool) -> None:
    path = tmp_path / "line.jsonl"
    with path.open("wb") as file:
        file.write(b'{"messages": "')
        file.truncate(500_000_000)  # a hole in the file: NUL bytes, no line end, no space on disk
        if with_line_end:
            file.seek(0, 2)
            file.write(b"\n" + (GOOD + "\n").encode() * 10)
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CHECK, str(path)], capture_output=True, text=True, check=True)
    errors, code, megabytes = done.stdout.split()
    assert (code, int(megabytes) < 250) == ("line_too_long", True), done.stdout
    assert int(errors) == (1 if with_line_end else 2)  # without the good rows it is also too few
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("depth", [65, 900, 2_000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_an_error_not_a_crash(tmp_path: Path, depth: int, opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    row = f'{{"messages": {opening * depth}1{closing * depth}}}'
    assert codes(tmp_path, row) == {"too_deep": 1, "few_examples": 1, "no_system": 10}


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b'{"messages": [\x00]}', "invalid_json"),
        (b'{"messages": NaN}', "invalid_json"),
        (b'{"messages": -Infinity}', "invalid_json"),
        (b'{"messages": 1e999}', "invalid_json"),
        (b'{"messages": ' + b"9" * 100_000 + b"}", "invalid_json"),
        (b'{"messages": ' + b"9" * 100 + b"}", "missing_messages"),
        (b'{"messages": [], "messages": []}', "duplicate_key"),
        (b'{"messages": "\xed\xa0\x80"}', "not_utf8"),
        (b'{"messages": "\xc3"}', "not_utf8"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b"{}", "missing_messages"),
        (b"null", "not_an_object"),
        (b'"messages"', "not_an_object"),
        (b"true", "not_an_object"),
        (b'{"messages": {"role": "user"}}', "missing_messages"),
        (b'{"": [], "messages": null}', "extra_key"),
    ],
)
def test_odd_json_is_named(tmp_path: Path, row: bytes, code: str) -> None:
    assert code in codes(tmp_path, row)


def test_crlf_line_ends_and_a_missing_last_one_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\r\n".join([GOOD] * 12).encode())
    report = check_file(path)
    assert (report.ok, report.examples, report.blank_lines) == (True, 12, 0)


def test_a_file_of_old_mac_line_ends_is_one_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\r".join([GOOD] * 12).encode())
    report = check_file(path)
    assert (report.examples, "invalid_json" in report.counts) == (1, True)


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings_are_named(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes((GOOD + "\n").encode(codec) * 12)
    assert list(check_file(path).counts) == ["wrong_encoding"]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([json.loads(GOOD)] * 10),
        json.dumps([json.loads(GOOD)] * 10, indent=2),
        json.dumps(json.loads(GOOD), indent=2),
        "\x7fELF\x02\x01\x01\x00\x00\x00",
        "prompt,completion\nhi,ho\n",
        "---\n- a: b\n",
    ],
)
def test_what_is_no_jsonl_is_said_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    report = check_file(path)
    assert (list(report.counts), report.examples) == (["not_jsonl"], 0)


def test_a_file_of_faults_alone_is_given_up_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "GIVE_UP_ROWS", 2_000)
    monkeypatch.setattr(checking, "chunks", lambda path: chunks(path, chunk_bytes=2_000))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"[]\n" * 5_000)
    report = check_file(path)
    assert 2_000 <= report.examples == report.bad_rows < 4_000
    said = next(one.message for one in report.errors if one.code == "no_sound_row")
    assert said == f"None of the first {report.examples:,} rows is sound; what follows was not read."
    path.write_bytes((GOOD + "\n").encode() + b"[]\n" * 5_000)
    assert check_file(path).examples == 5_001


def test_lines_without_anything_are_passed_over_together(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes((GOOD + "\n").encode() * 10 + b"\n \n\t\r\n" * 200_000 + GOOD.encode() + b"\n" * 1_000)
    started = time.monotonic()
    report = check_file(path, CheckOptions(analysers=()))
    assert time.monotonic() - started < 5
    assert (report.examples, report.blank_lines, report.bad_rows) == (11, 600_999, 0)


@pytest.mark.parametrize("content", [b"", b"\n\n", b" \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert "empty_file" in check_file(path).counts


def test_a_schema_that_names_another_document_is_not_fetched(tmp_path: Path) -> None:
    tool = {"name": "f", "parameters": {"$ref": "http://127.0.0.1:9/schema.json"}}
    assert "invalid_tool_schema" in codes(tmp_path, json.dumps({**json.loads(GOOD), "functions": [tool]}))


def test_a_schema_with_a_runaway_pattern_does_not_hang(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": "a" * 50 + "!"})}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]
    row = {"messages": messages, "functions": [{"name": "f", "parameters": schema}]}
    started = time.monotonic()
    codes(tmp_path, json.dumps(row))
    assert time.monotonic() - started < 5


def test_a_huge_value_is_shown_short(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "x" * 1_000_000, "content": ["y" * 1_000_000]}]}) + "\n")
    for one in check_file(path).errors:
        assert len(one.value or "") <= VALUE_CHARS
        assert len(str(one)) < 400


def test_terminal_escapes_in_a_value_are_not_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "\x1b[2J\u202e\x9b", "content": "x"}]}) + "\n")
    shown = "".join(str(one) + str(one.value) for one in check_file(path).errors)
    assert not {"\x1b", "\u202e", "\x9b"} & set(shown)


def codes(tmp_path: Path, row: bytes | str) -> dict[str, int]:
    path = tmp_path / "rows.jsonl"
    raw = row.encode() if isinstance(row, str) else row
    path.write_bytes((GOOD + "\n").encode() * 10 + raw + b"\n")
    before = reset_peak_memory()
    report = check_file(path, CheckOptions(analysers=()))
    assert (report.examples, report.bad_rows) == (11, 1)
    assert memory_kb("VmHWM") - before < 100_000
    return report.counts


def reset_peak_memory() -> int:
    """The high-water mark is set back to what is in use now, which is returned, kB: other tests have left theirs."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_kb("VmRSS")


def memory_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
