"""Moderates the rows of a training file.

Every text of a row is moderated by itself: contents, names, calls and declared tools. A text that many rows share
(a system prompt) is moderated once. Memory does not grow with the file: the verdicts of `REMEMBERED` texts are kept at
most. Rows with errors are left out: they are not trained on either.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tunesmith.check.scan.batch import BatchRow
from tunesmith.check.scan.chunk import sound_rows
from tunesmith.check.scan.result import ChunkResult, ScanOptions
from tunesmith.moderation.moderator import Coverage, Moderator, ModeratorUnavailable, Verdict, open_moderator
from tunesmith.moderation.report import ModerationReport
from tunesmith.rows.lines import chunks, read_chunk
from tunesmith.rows.row_texts import RowTexts

if TYPE_CHECKING:
    from tunesmith.settings import Settings

ROWS_AT_ONCE = 256
REMEMBERED = 20_000

LineTexts: TypeAlias = tuple[int, Sequence[tuple[str, str]]]  # line, (path, text) of each text


def moderate_file(
    path: Path, settings: "Settings", progress: Callable[[int, int], None] | None = None
) -> ModerationReport | None:
    """The report on the rows of `path`; None if the setting `moderation` is 'off'.

    Never raises for the service.

    In mode 'block' call `refusal` on it; in mode 'warn' a service that is down leaves a report with its `fault`.
    """
    if settings.moderation == "off":
        return None
    try:
        moderator = open_moderator(settings)
    except ModeratorUnavailable as fault:
        name = settings.moderation_model or "unknown"
        return ModerationReport(backend=name, coverage=Coverage((), "none"), fault=fault)
    return moderate_rows(file_texts(path, progress), moderator)


def file_texts(path: Path, progress: Callable[[int, int], None] | None = None) -> Iterator[LineTexts]:
    """The texts of each row without errors.

    `progress` is told the bytes read and those of the file.
    """
    size = path.stat().st_size
    for chunk in chunks(path):
        if not chunk.too_long:
            rows = sound_rows(read_chunk(path, chunk), chunk.first_line, ScanOptions(), ChunkResult())
            yield from (found for found in map(line_texts, rows) if found[1])
        if progress is not None:
            progress(chunk.offset + chunk.length, size)


def line_texts(row: BatchRow) -> LineTexts:
    """The texts of a row, with their paths, but for empty ones."""
    if isinstance(row.about, RowTexts):
        return row.line, [(path, text) for path, text in zip(row.about.paths, row.texts, strict=True) if text]
    return row.line, [(f"messages[{index}].content", text) for index, text in enumerate(row.texts)]


def moderate_rows(rows: Iterable[LineTexts], moderator: Moderator) -> ModerationReport:
    """The report; a moderator that gives up ends it early, with the reason in `fault`."""
    report = ModerationReport(backend=moderator.name, coverage=moderator.coverage)
    known: dict[bytes, Verdict | None] = {}
    waiting: list[LineTexts] = []
    try:
        for row in rows:
            waiting.append(row)
            if len(waiting) == ROWS_AT_ONCE:
                _moderate(waiting, moderator, known, report)
                waiting = []
        _moderate(waiting, moderator, known, report)
    except ModeratorUnavailable as fault:
        report.fault = fault
    report.coverage = moderator.coverage  # a service shows it by its answers
    return report


def _moderate(
    rows: Sequence[LineTexts], moderator: Moderator, known: dict[bytes, Verdict | None], report: ModerationReport
) -> None:
    if len(known) > REMEMBERED:
        known.clear()
    keys = [[_key(text) for _, text in texts] for _, texts in rows]
    new = {
        key: text
        for row, (_, texts) in zip(keys, rows, strict=True)
        for key, (_, text) in zip(row, texts, strict=True)
        if key not in known
    }
    known.update(zip(new, moderator.moderate(list(new.values())), strict=True))
    for row, (line, texts) in zip(keys, rows, strict=True):
        report.add(line, [(path, known[key]) for key, (path, _) in zip(row, texts, strict=True)])


def _key(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
