"""`tunesmith fix`: writes a training file with the safe fixes applied.

Rows that are still broken afterwards go, unchanged, into a second file, so nothing is lost and the result passes the
check, unless it has too few rows. Fixing the result again changes nothing.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import orjson

from tunesmith.check.fix.fixes import fix_row, is_empty
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Finding, FindingLog, at_line, finding
from tunesmith.rows.lines import sniff
from tunesmith.rows.parse import BrokenLine, parse_line
from tunesmith.rows.raw_row import iter_lines
from tunesmith.rows.row_faults import Kind, kind_of, row_faults


@dataclass(slots=True)
class FixResult:
    """The counts of what was changed and left out.

    `changed` counts rows by fix. `rows_in` = `rows_out` + `duplicates` + `empty` + `rejected`.
    """

    rows_in: int = 0
    rows_out: int = 0
    blank_lines: int = 0
    duplicates: int = 0
    empty: int = 0
    rejected: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    log: FindingLog = field(default_factory=FindingLog)
    rejected_file: str | None = None

    def to_json(self) -> JsonObject:
        """The result as `tunesmith fix --json` prints it."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "blank_lines": self.blank_lines,
            "duplicates": self.duplicates,
            "empty": self.empty,
            "rejected": self.rejected,
            "rejected_file": self.rejected_file,
            "changed": dict(self.changed),
            "errors": [one.to_json() for one in self.log.errors],
        }


def fix_file(source: Path, target: Path, *, overwrite: bool = False) -> FixResult:
    """Writes the fixed rows to `target`, the others to `<target>.rejected`.

    InvalidRequest when the two are one file, when `target` exists, or when `source` holds no lines that can be read.
    """
    rejects = target.with_name(f"{target.name}.rejected")
    _refuse_unsafe(source, target, rejects, overwrite=overwrite)
    result = FixResult()
    fixing = _Fixing(result)
    fresh, fresh_rejects = _temporary(target), _temporary(rejects)
    try:
        with fresh.open("wb") as good, fresh_rejects.open("wb") as bad:
            for number, raw in _lines(source, result):
                fixing.line(number, raw, good, bad)
        if fresh_rejects.stat().st_size:
            fresh_rejects.replace(rejects)
            result.rejected_file = rejects.name
        fresh.replace(target)
    finally:
        for leftover in (fresh, fresh_rejects):
            with suppress(FileNotFoundError):
                leftover.unlink()
    return result


class _Fixing:
    """What is remembered from row to row: the kind of the first good one, and which ones were written."""

    def __init__(self, result: FixResult) -> None:
        self._result = result
        self._kind: Kind | None = None
        self._written: set[bytes] = set()  # 16 bytes of digest a row, about 100 in memory

    def line(self, number: int, raw: bytes, good: BinaryIO, bad: BinaryIO) -> None:
        result = self._result
        result.rows_in += 1
        try:
            row = parse_line(raw)
        except BrokenLine as broken:
            self._reject([at_line(broken.fault, number)], raw, bad)
            return
        if is_empty(row):
            result.empty += 1
            return
        fixes = fix_row(row) if isinstance(row, dict) else []
        if is_empty(row):
            result.empty += 1
            return
        found = [at_line(fault, number) for fault in row_faults(row, self._kind)]
        errors = [one for one in found if CODES[one.code].severity == "error"]
        if errors:
            self._reject(errors, raw, bad)
            return
        self._kind = self._kind or kind_of(row)
        digest = blake2b(orjson.dumps(row, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
        if digest in self._written:
            result.duplicates += 1
            return
        self._written.add(digest)
        for fix in fixes:
            result.changed[fix] = result.changed.get(fix, 0) + 1
        good.write((orjson.dumps(row) if fixes else raw) + b"\n")
        result.rows_out += 1

    def _reject(self, errors: list[Finding], raw: bytes, bad: BinaryIO) -> None:
        self._result.rejected += 1
        self._result.log.extend(errors)
        bad.write(raw + b"\n")


def _lines(source: Path, result: FixResult) -> Iterator[tuple[int, bytes]]:
    """(number, stripped line) of every line that is not blank and not too long to read."""
    for raw in iter_lines(source):
        if raw.text is None:
            result.rows_in += 1
            result.rejected += 1
            text = f"The line has {raw.size:,} bytes and was left out altogether."
            result.log.add(finding("line_too_long", raw.line, text))
        elif raw.is_blank:
            result.blank_lines += 1
        else:
            yield raw.line, raw.text.strip(b" \t\r")


def _refuse_unsafe(source: Path, target: Path, rejects: Path, *, overwrite: bool) -> None:
    for path in (target, rejects):
        if path.exists() and path.samefile(source):
            raise InvalidRequest(f"{path} is the input itself; name another file for the result.", param="output")
        if path.exists() and not overwrite:
            raise InvalidRequest(f"{path} exists already; name another file, or remove it.", param="output")
    for found in sniff(source):
        if found.severity == "error":
            raise InvalidRequest(str(found), param="file", code=found.code)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
