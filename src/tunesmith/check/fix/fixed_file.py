"""`tunesmith fix`: a training file with every change that leaves no choice.

Whatever the form (an array, CSV, UTF-16) and the shape (another tool's) of the rows, they come out as rows of ours, in
their order. Rows that are still broken go, unchanged, into a second file, so nothing is lost and the result passes the
check, unless it has too few rows. Fixing the result again changes nothing.
"""

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import orjson

from tunesmith.check.fix.columns import Columns
from tunesmith.check.fix.fix_result import FixResult, RowChange
from tunesmith.check.fix.fixed_row import FixedRow, fixed_row
from tunesmith.check.fix.repair import read_line
from tunesmith.check.fix.source import Piece, encoding_of, is_table, read_pieces, write_as_utf8
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonValue
from tunesmith.rows.findings import Finding, at_line, finding
from tunesmith.rows.lines import SNIFF_BYTES, WRITTEN_ELSEWHERE, sniff
from tunesmith.rows.parse import BrokenLine
from tunesmith.rows.row_faults import Kind, kind_of

SHOWN_ALIKE = 3  # rows with the same changes, so that a common one does not crowd out the others


@dataclass(frozen=True, slots=True)
class FixOptions:
    """How a file is fixed.

    `columns` says what the columns of a table or of unknown rows are; `encoding` is that of a file that is not Unicode.
    `copy_sound` writes a copy of a file that needs no fix. `show`: how many changed rows the result shows.
    """

    overwrite: bool = False
    copy_sound: bool = True
    columns: Columns | None = None
    encoding: str | None = None
    show: int = 0


def fix_file(source: Path, target: Path, options: FixOptions = FixOptions()) -> FixResult:
    """Writes the fixed rows to `target`, the others to `<target>.rejected`.

    Nothing is written when no row is left, or none needed a fix and no copy is wanted; the result says so.
    InvalidRequest when the two are one file, when `target` exists, or when `source` holds no rows that can be read.
    """
    rejects = target.with_name(f"{target.name}.rejected")
    _refuse_unsafe(source, target, rejects, overwrite=options.overwrite)
    files = _Files(target, rejects)
    try:
        result = _fix(_readable(source, files.utf8, options), files, options)
        if result.rows_out and (options.copy_sound or not result.is_unchanged):
            if files.fresh_rejects.stat().st_size:
                files.fresh_rejects.replace(rejects)
                result.rejected_file = rejects.name
            files.fresh.replace(target)
            result.is_written = True
    finally:
        files.remove()
    return result


@dataclass(frozen=True, slots=True)
class _Files:
    """The files that stand beside the result while it is made."""

    target: Path
    rejects: Path

    @property
    def fresh(self) -> Path:
        return _temporary(self.target)

    @property
    def fresh_rejects(self) -> Path:
        return _temporary(self.rejects)

    @property
    def utf8(self) -> Path:
        return _temporary(self.target.with_name(f"{self.target.name}.utf8"))

    def remove(self) -> None:
        for leftover in (self.fresh, self.fresh_rejects, self.utf8):
            with suppress(FileNotFoundError):
                leftover.unlink()


def _fix(source: Path, files: _Files, options: FixOptions) -> FixResult:
    result = FixResult()
    if source == files.utf8:
        result.rewritten.append("wrote it as UTF-8")
    columns = options.columns.names if options.columns is not None else ()
    with files.fresh.open("wb") as good, files.fresh_rejects.open("wb") as bad:
        fixing = _Fixing(result, good, bad, options)
        for piece in read_pieces(source, columns):
            fixing.take(piece)
    return result


class _Fixing:
    """What is remembered from row to row: the kind of the first good one, and which ones were written."""

    def __init__(self, result: FixResult, good: BinaryIO, bad: BinaryIO, options: FixOptions) -> None:
        self._result = result
        self._good = good
        self._bad = bad
        self._columns = options.columns
        self._show = options.show
        self._alike: Counter[tuple[str, ...]] = Counter()
        self._kind: Kind | None = None
        self._written: set[bytes] = set()  # 16 bytes of digest a row, about 100 in memory

    def take(self, piece: Piece) -> None:
        if piece.text is None:
            self._result.rows_in += 1
            self._result.rejected += 1
            text = f"The row has {piece.size:,} bytes and was left out altogether."
            self._result.log.add(finding("line_too_long", piece.line, text))
        elif not piece.text.strip():
            self._result.blank_lines += 1
        else:
            self._read(piece, piece.text)

    def _read(self, piece: Piece, text: bytes) -> None:
        try:
            values, repairs = read_line(text)
        except BrokenLine as broken:
            self._result.rows_in += 1
            self._reject([at_line(broken.fault, piece.line)], text)
            return
        changes = [*piece.repairs, *repairs]
        for value, raw in values:
            self._result.rows_in += 1
            self._row(value, _RowText(piece.line, raw, changes, is_row=not repairs and b"\n" not in raw))

    def _row(self, value: JsonValue, text: "_RowText") -> None:
        result = self._result
        if self._show > len(result.shown):  # a row is fixed in its place
            text = replace(text, before=_spelled(value, text))
        done = fixed_row(value, self._kind, self._columns)
        if done.empty:
            result.drop(text.line, "empty")
            self._keep(text, None, ["left out: empty"])
        elif done.errors:
            self._reject([at_line(fault, text.line) for fault in done.errors], text.raw)
        else:
            self._kind = result.kind = self._kind or kind_of(done.row)
            self._write(done, text)

    def _write(self, done: FixedRow, text: "_RowText") -> None:
        digest = blake2b(orjson.dumps(done.row, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
        if digest in self._written:
            self._result.drop(text.line, "duplicate")
            self._keep(text, None, ["left out: repeats an earlier row"])
            return
        self._written.add(digest)
        self._result.add(done, text.changes)
        row = text.raw if text.is_row and not done.changed else orjson.dumps(done.row)
        self._good.write(row + b"\n")
        self._result.rows_out += 1
        if text.changes or done.changed:
            self._keep(text, row, [*text.changes, *done.changes])

    def _keep(self, text: "_RowText", after: bytes | None, changes: list[str]) -> None:
        what = tuple(dict.fromkeys(changes))
        if text.before is not None and self._alike[what] < SHOWN_ALIKE:
            self._alike[what] += 1
            self._result.shown.append(RowChange(text.line, text.before, after, what))

    def _reject(self, errors: list[Finding], raw: bytes) -> None:
        self._result.rejected += 1
        self._result.log.extend(errors)
        self._bad.write(raw + b"\n")


@dataclass(frozen=True, slots=True)
class _RowText:
    """Where a row stood, as what; `is_row` when it is a line of JSON as it stood.

    `before` is the row as it was, where it is to be shown.
    """

    line: int
    raw: bytes
    changes: list[str]
    is_row: bool
    before: bytes | None = None


def _spelled(value: JsonValue, text: _RowText) -> bytes:
    """The row in our own spelling, so that no white space differs; one that was repaired, as it stood."""
    return orjson.dumps(value) if text.is_row else text.raw


def _readable(source: Path, utf8: Path, options: FixOptions) -> Path:
    """`source`, or its copy in UTF-8; InvalidRequest where it holds nothing that can be read."""
    encoding = options.encoding or encoding_of(source)
    if encoding is not None:
        write_as_utf8(source, utf8, encoding)
        source = utf8
    columns = options.columns.names if options.columns is not None else ()
    for found in sniff(source):
        if found.severity == "error":
            _refuse_unless_readable(source, found, columns)
    return source


def _refuse_unless_readable(source: Path, found: Finding, columns: tuple[str, ...]) -> None:
    if found.code != "not_jsonl":
        raise InvalidRequest(str(found), param="file", code=found.code)
    with source.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    if "one JSON array" in found.message or "over many lines" in found.message or is_table(head, columns):
        return
    if found.fix == WRITTEN_ELSEWHERE:
        text = f"{found.message} {found.fix}"
    else:
        text = (
            "The file is neither JSON nor a table whose first line names a known column, such as prompt and "
            "completion. If it is a table, name its columns: --prompt-field NAME --completion-field NAME."
        )
    raise InvalidRequest(text, param="file", code=found.code)


def _refuse_unsafe(source: Path, target: Path, rejects: Path, *, overwrite: bool) -> None:
    for path in (target, rejects):
        if path.exists() and path.samefile(source):
            raise InvalidRequest(f"{path} is the input itself; name another file for the result.", param="output")
        if path.exists() and not overwrite:
            raise InvalidRequest(f"{path} exists already; name another file, or remove it.", param="output")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
