"""The fast path says what the careful one says; many chunks and processes say what one does."""

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.check.file_check import check_file
from tunesmith.check.report.file_report import Report
from tunesmith.check.scan import file_scan as checking
from tunesmith.check.scan.chunk import scan as scan_chunk
from tunesmith.check.scan.plain_rows import PlainRows
from tunesmith.check.scan.result import ChunkResult, ScanOptions
from tunesmith.check.scan.workers import scan_chunks
from tunesmith.errors import ServerFault
from tunesmith.rows import lines
from tunesmith.rows.lines import Chunk, chunks, read_chunk

NUMBERS = ("lines", "messages", "tokens", "learned", "system_tokens", "before")


def mixed_rows(count: int, seed: int = 0) -> Iterator[bytes]:
    """Good and bad rows of many shapes."""
    choice = random.Random(seed).choice
    for number in range(count):
        messages: list[dict[str, object]] = [
            {"role": choice(["system", "developer"]), "content": choice(["Be brief.", "Sei kurz, größer.", "简短"])},
            {"role": "user", "content": choice(["hi", "how", f"what {number}?", '{"role": "user"}', ""])},
            {
                "role": choice(["assistant", "assistant", "user"]),
                "content": choice(["yes", "no", " ", "caf\u00c3\u00a9"]),
            },
        ]
        if choice([True, False, False, False]):
            messages[2:2] = [
                {"role": "assistant", "content": choice([" ", "so", 7, None])},
                {"role": "user", "content": "go on"},
            ]
        row: dict[str, object] = {"messages": messages[choice([0, 0, 1]) :]}
        if choice([True, False, False]):
            messages[-1]["weight"] = choice([0, 1])
        if choice([True] + [False] * 9):
            row["extra"] = 1
        yield (
            choice([b"", b" ", b"x"])
            if choice([True] + [False] * 9)
            else json.dumps(row, ensure_ascii=choice([True, False])).encode()
        )


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(mixed_rows(2000)))
    return path


def same(one: Report, other: Report) -> bool:
    return dataclasses.replace(one, seconds=0.0) == dataclasses.replace(other, seconds=0.0)


def facts(result: ChunkResult) -> tuple[object, ...]:
    arrays = [getattr(result, name).tolist() for name in NUMBERS]
    digests = [getattr(result, name).tolist() for name in ("systems", "prompts", "answers")]
    found = sorted(str(one) for one in (*result.log.errors, *result.log.warnings))
    return (
        result.examples,
        result.bad_rows,
        result.kinds,
        result.roles,
        result.forms,
        dict(sorted(result.log.counts.items())),
        arrays,
        digests,
        found,
    )


def test_the_fast_path_agrees_with_the_careful_one(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small pieces, so that every finding is listed."""
    rows = mixed.read_bytes().split(b"\n")
    pieces = [b"\n".join(rows[at : at + 20]) for at in range(0, len(rows), 20)]
    options = ScanOptions("chat", analysers=("text_quality",))
    fast = [facts(scan_chunk(piece, 1, options)) for piece in pieces]
    taken = []

    def take_none(_self: PlainRows, lines: list[bytes], *_: object) -> list[None]:
        taken.append(lines)
        return [None] * len(lines)

    monkeypatch.setattr(PlainRows, "take", take_none)
    careful = [facts(scan_chunk(piece, 1, options)) for piece in pieces]
    assert taken
    assert fast == careful


def test_several_chunks_and_processes_give_the_report_of_one(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = check_file(mixed)
    assert whole.error_count > 100
    small = lambda path: chunks(path, chunk_bytes=4096)  # noqa: E731
    monkeypatch.setattr(checking, "chunks", small)
    pieces = check_file(mixed)
    monkeypatch.setattr(checking, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(checking, "cores", lambda: 3)
    spread = check_file(mixed)
    for other in (pieces, spread):
        assert other.counts == whole.counts
        assert (other.errors, other.roles, other.openai.tokens) == (whole.errors, whole.roles, whole.openai.tokens)
        assert other.per_row.tokens == whole.per_row.tokens
    assert same(pieces, spread)


def test_chunks_are_whole_lines_and_cover_the_file(mixed: Path) -> None:
    found = list(chunks(mixed, chunk_bytes=1000))
    assert b"".join(read_chunk(mixed, chunk) for chunk in found) == mixed.read_bytes()
    line = 1
    for chunk in found:
        assert chunk.first_line == line
        line += read_chunk(mixed, chunk).count(b"\n")


def test_a_line_longer_than_a_chunk_is_whole_and_one_over_the_limit_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"a\n" + b"b" * 50 + b"\n" + b"c" * 500 + b"\nd\ne")
    found = list(chunks(path, chunk_bytes=20, max_line=100))
    assert found == [
        Chunk(0, 2, 1),
        Chunk(2, 51, 2),
        Chunk(53, 501, 3, too_long=True),
        Chunk(554, 2, 4),
        Chunk(556, 1, 5),
    ]


def test_lines_after_a_too_long_one_keep_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    good = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    path.write_bytes(good * 10 + b'{"x": "' + b"y" * 5000 + b'"}\n' + b"[]\n")
    monkeypatch.setattr(checking, "chunks", lambda path: chunks(path, chunk_bytes=1000, max_line=4000))
    report = check_file(path)
    assert [(one.line, one.code) for one in report.errors] == [(11, "line_too_long"), (12, "not_an_object")]
    assert (report.examples, report.bad_rows) == (12, 2)


def test_a_worker_that_dies_is_an_error_and_not_a_short_report(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.check.scan import workers

    monkeypatch.setattr(
        workers._Worker, "scan", lambda self, chunk: self.channel.end() or workers._receive(self.channel.answers)
    )
    with pytest.raises(ServerFault, match="ended early"):
        list(scan_chunks(mixed, chunks(mixed, 4096), ScanOptions("chat"), 2))


@pytest.mark.parametrize("forks", [True, False])
def test_workers_that_are_forked_and_started_say_the_same(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    from tunesmith.check.scan import workers

    monkeypatch.setattr(workers, "_may_fork", lambda: forks)
    options = ScanOptions("chat", analysers=("text_quality", "personal_data"), threads=1)
    alone = [facts(scan_chunk(read_chunk(mixed, one), one.first_line, options)) for one in chunks(mixed, 16_384)]
    assert [facts(one) for one in scan_chunks(mixed, chunks(mixed, 16_384), options, 3)] == alone


def test_progress_reaches_the_end(mixed: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_file(mixed, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (mixed.stat().st_size, mixed.stat().st_size)


def test_the_check_imports_no_torch_no_database_and_no_network() -> None:
    heavy = "{'torch', 'sqlalchemy', 'transformers', 'httpx'}"
    code = f"import sys, tunesmith.check.file_check; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_bound_of_a_line_is_far_above_any_real_row() -> None:
    assert lines.MAX_LINE_BYTES >= 4 * lines.CHUNK_BYTES
