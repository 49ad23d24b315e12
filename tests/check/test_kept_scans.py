"""A kept pass is used only where it is whole, of the same bytes, options and rules; else the file is read again."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.check import file_check, kept_scans
from tunesmith.check.file_check import CheckOptions, check_file, report_on, scan_of
from tunesmith.check.kept_scans import KeptScan, KeptScans
from tunesmith.check.report.file_report import Report
from tunesmith.check.rules.duplicates import ROW_SKETCHES
from tunesmith.check.rules.leaks import compare, find_leaks, index_of
from tunesmith.check.scan.analysers import DEFAULT_ANALYSERS
from tunesmith.check.scan.file_scan import FileScan, Progress, scan_file
from tunesmith.check.scan.result import ARRAYS, ScanOptions
from tunesmith.render.renderer import Renderer

OPTIONS = CheckOptions(analysers=(*DEFAULT_ANALYSERS, ROW_SKETCHES))


def row(number: int, answer: str = "Take the second street on the left, then ask at the bakery.") -> str:
    question = {"role": "user", "content": f"How do I find house number {number} from the station?"}
    return json.dumps({"messages": [question, {"role": "assistant", "content": f"{answer} {number}"}]})


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Good rows, faults, duplicates, personal data."""
    lines = [row(number) for number in range(12)]
    return written(tmp_path / "rows.jsonl", *lines, lines[0], "", "{broken", row(50, "Write to jane@example.com."))


@pytest.fixture
def kept(tmp_path: Path, rows: Path) -> KeptScan:
    return KeptScans(tmp_path / "checks").of(hash_of(rows))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read from here on."""
    read: list[Path] = []

    def noted(path: Path, options: ScanOptions, progress: Progress | None = None) -> FileScan:
        read.append(path)
        return scan_file(path, options, progress)

    monkeypatch.setattr(file_check, "scan_file", noted)
    return read


def untimed(report: Report) -> Report:
    return replace(report, seconds=0.0)


def test_the_report_from_a_kept_pass_is_the_same(rows: Path, kept: KeptScan, passes: list[Path]) -> None:
    direct = untimed(check_file(rows, OPTIONS))
    for _ in range(3):
        assert report_on(rows, scan_of(rows, OPTIONS, kept), OPTIONS) == direct
    assert len(passes) == 2


def test_a_pass_comes_back_whole(rows: Path, kept: KeptScan) -> None:
    scan = scan_of(rows, OPTIONS, kept)
    back = kept.read(rows, OPTIONS.scan)
    assert back is not None
    assert (back.rows.log, back.rows.forms, back.rows.odd_bytes) == (
        scan.rows.log,
        scan.rows.forms,
        scan.rows.odd_bytes,
    )
    assert (back.rows.kind, back.sections, back.readable) == ("chat", scan.sections, True)
    for name in ARRAYS:
        assert np.array_equal(getattr(back.rows, name), getattr(scan.rows, name)), name


def test_leaks_are_found_from_kept_passes(tmp_path: Path, rows: Path) -> None:
    other = written(tmp_path / "other.jsonl", row(3), row(4, "Take the second street on the left, then ask the baker."))
    indexes = []
    for path in (rows, other):
        kept = KeptScans(tmp_path / "checks").of(hash_of(path))
        scan_of(path, OPTIONS, kept)
        indexes.append(index_of(path, scan_of(path, OPTIONS, kept)))
    found = compare(*indexes)
    assert len(found.exact) == 1
    assert (found.exact, found.near) == (find_leaks(rows, other).exact, find_leaks(rows, other).near)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_pass_is_made_again(rows: Path, kept: KeptScan, passes: list[Path], damage: str) -> None:
    expected = report_on(rows, scan_of(rows, OPTIONS, kept), OPTIONS)
    (file,) = kept.directory.iterdir()
    content = file.read_bytes()
    middle = len(content) // 2
    broken = {
        "cut": content[:middle],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "empty": b"",
        "foreign": b"{}\n",
    }
    file.write_bytes(broken[damage])
    assert report_on(rows, scan_of(rows, OPTIONS, kept), OPTIONS) == expected
    assert len(passes) == 2
    assert file.read_bytes() == content


def test_a_pass_over_other_bytes_is_not_taken_for_this_files(
    tmp_path: Path, rows: Path, kept: KeptScan, passes: list[Path]
) -> None:
    scan_of(rows, OPTIONS, kept)
    (name,) = [path.name for path in kept.directory.iterdir()]
    other = written(tmp_path / "other.jsonl", *(row(number) for number in range(30)))
    theirs = KeptScans(tmp_path / "others").of(hash_of(other))
    scan_of(other, OPTIONS, theirs)
    (foreign,) = theirs.directory.iterdir()
    (kept.directory / name).write_bytes(foreign.read_bytes())
    assert scan_of(rows, OPTIONS, kept).rows.examples == 15
    assert len(passes) == 3


def test_a_pass_by_older_rules_is_made_again(
    rows: Path, kept: KeptScan, passes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan_of(rows, OPTIONS, kept)
    monkeypatch.setattr(kept_scans, "CHECK_VERSION", kept_scans.CHECK_VERSION + 1)
    scan_of(rows, OPTIONS, kept)
    assert len(passes) == 2


@pytest.mark.parametrize(
    "other",
    [{"encoding": "o200k_base"}, {"analysers": DEFAULT_ANALYSERS}, {"method": "reinforcement"}],
)
def test_a_pass_with_other_options_is_another(
    rows: Path, kept: KeptScan, passes: list[Path], other: dict[str, Any]
) -> None:
    scan_of(rows, OPTIONS, kept)
    scan_of(rows, replace(OPTIONS, **other), kept)
    assert len(passes) == 2


def test_limits_methods_and_bases_share_a_pass(
    rows: Path, kept: KeptScan, passes: list[Path], renderer: Renderer
) -> None:
    scan_of(rows, OPTIONS, kept)
    for change in ({"max_tokens": 30}, {"min_examples": 1}, {"method": "supervised"}, {"renderer": renderer}):
        options = replace(OPTIONS, **change)
        kept_report = report_on(rows, scan_of(rows, options, kept), options)
        assert untimed(check_file(rows, options)) == kept_report
    assert len(passes) == 1 + 4  # those of check_file


def test_a_file_with_characters_that_the_base_lacks_is_read_for_the_base(
    tmp_path: Path, passes: list[Path], renderer: Renderer
) -> None:
    path = written(tmp_path / "rows.jsonl", *(row(number) for number in range(12)), row(20, "Odd: \U00040000"))
    kept = KeptScans(tmp_path / "checks").of(hash_of(path))
    with_base = replace(OPTIONS, renderer=renderer, base_totals=False)
    assert "unwritable_character" not in report_on(path, scan_of(path, OPTIONS, kept), OPTIONS).counts
    for _ in range(2):
        assert report_on(path, scan_of(path, with_base, kept), with_base).counts["unwritable_character"] == 1
    assert len(passes) == 2


def test_a_file_that_is_no_jsonl_is_kept_as_such(tmp_path: Path, passes: list[Path]) -> None:
    path = written(tmp_path / "rows.csv", "prompt,completion", "a,b")
    kept = KeptScans(tmp_path / "checks").of(hash_of(path))
    for _ in range(2):
        assert list(report_on(path, scan_of(path, OPTIONS, kept), OPTIONS).counts) == ["not_jsonl"]
    assert len(passes) == 1


def test_a_directory_that_cannot_be_written_costs_only_time(tmp_path: Path, rows: Path, passes: list[Path]) -> None:
    (tmp_path / "checks").write_text("a file where the directory should be")
    kept = KeptScans(tmp_path / "checks").of(hash_of(rows))
    for _ in range(2):
        assert scan_of(rows, OPTIONS, kept).rows.examples == 15
    assert len(passes) == 2


def test_what_is_kept_goes_with_the_file(tmp_path: Path, rows: Path, kept: KeptScan) -> None:
    scans = KeptScans(tmp_path / "checks")
    scan_of(rows, OPTIONS, kept)
    assert scans.sweep({kept.sha256}) == 0
    assert scans.sweep({"other"}) == 1
    scan_of(rows, OPTIONS, kept)
    scans.discard("other")
    assert list(kept.directory.iterdir())
    scans.discard(kept.sha256)
    assert not list(kept.directory.iterdir())


def test_a_pass_that_cannot_be_removed_is_said_and_stops_nothing(
    tmp_path: Path, rows: Path, kept: KeptScan, caplog: pytest.LogCaptureFixture
) -> None:
    sha256 = hash_of(rows)
    (tmp_path / "checks" / f"{sha256}.0").mkdir(parents=True)  # a folder, as root may remove any file
    scan_of(rows, OPTIONS, kept)
    scans = KeptScans(tmp_path / "checks")
    scans.discard(sha256)
    assert [path.name for path in (tmp_path / "checks").iterdir()] == [f"{sha256}.0"]
    assert f"{sha256}.0 cannot be removed" in caplog.text
    assert scans.sweep(set()) == 0
