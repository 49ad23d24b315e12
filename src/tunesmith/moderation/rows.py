"""The rows of a training file, judged: what the check's report, a job's events and its refusal are made of.

Every text of a row is judged by itself: contents, names, calls and declared tools. A text that stands in many rows
(a system prompt) is judged once. Memory does not grow with the file: the first `LISTED` flagged rows are kept, all
are counted, and the verdicts of `REMEMBERED` texts at most.

Rows with errors are left out: they are not trained on either.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from tunesmith.check.scan.plain_rows import BLOCK_ROWS, PlainRows, key_marks
from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject
from tunesmith.moderation.moderator import CATEGORIES, Coverage, Judge, JudgeUnavailable, Mode, Verdict, open_judge
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Finding, finding
from tunesmith.rows.lines import chunks, read_chunk
from tunesmith.rows.parse import BrokenLine, parse_line
from tunesmith.rows.row_faults import row_faults
from tunesmith.rows.row_texts import row_texts
from tunesmith.settings import Settings

LISTED = 100
ROWS_AT_ONCE = 256
REMEMBERED = 20_000

JudgedRow = tuple[int, Sequence[tuple[str, str]]]  # line, (path, text) of each text


@dataclass(frozen=True, slots=True)
class FlaggedRow:
    """`path` is where the worst text stands; `scores` are the highest of all the row's texts."""

    line: int
    path: str
    categories: tuple[str, ...]
    scores: dict[str, float]

    def to_json(self) -> JsonObject:
        return {"line": self.line, "path": self.path, "categories": list(self.categories), "scores": {**self.scores}}


@dataclass(slots=True)
class ModerationReport:
    """`rows` and `texts` were judged; `unread_texts` could not be, for their language or the judge's answer.

    `fault` says why judging stopped before the end; then the numbers are those up to there.
    """

    backend: str
    coverage: Coverage
    rows: int = 0
    texts: int = 0
    unread_texts: int = 0
    unread_rows: int = 0
    flagged_rows: int = 0
    by_category: dict[str, int] = field(default_factory=dict)
    listed: list[FlaggedRow] = field(default_factory=list)
    fault: JudgeUnavailable | None = None

    @property
    def complete(self) -> bool:
        return self.fault is None

    def to_json(self) -> JsonObject:
        return {
            "backend": self.backend,
            "complete": self.complete,
            "fault": self.fault.message if self.fault else None,
            "rows": self.rows,
            "texts": self.texts,
            "flagged_rows": self.flagged_rows,
            "by_category": {**self.by_category},
            "not_covered": {
                "categories": list(self.coverage.missing),
                "languages": self.coverage.languages,
                "rows": self.unread_rows,
                "texts": self.unread_texts,
            },
            "flagged": [row.to_json() for row in self.listed],
        }

    def findings(self) -> Iterator[Finding]:
        """One warning for each flagged row that is listed."""
        for row in self.listed:
            shown = ", ".join(f"{name} {row.scores.get(name, 1.0):.2f}" for name in row.categories)
            yield finding("flagged", row.line, f"Flagged: {shown}.", path=row.path, value=", ".join(row.categories))

    def summary(self) -> str:
        """One or two sentences for a job's event about its moderation."""
        if self.fault is not None:
            return f"Moderation broke off after {self.rows} rows: {self.fault.message}"
        held = "1 row holds" if self.unread_rows == 1 else f"{self.unread_rows} rows hold"
        unread = f" {held} text it cannot read." if self.unread_rows else ""
        missing = f" Not covered: {', '.join(self.coverage.missing)}." if self.coverage.missing else ""
        what = "no row" if not self.flagged_rows else "1 row" if self.flagged_rows == 1 else f"{self.flagged_rows} rows"
        by = ", ".join(f"{name} {count}" for name, count in self.by_category.items())
        return f"Moderation by {self.backend} flagged {what} of {self.rows}{f' ({by})' if by else ''}.{unread}{missing}"

    def refusal(self, mode: Mode) -> DataError | None:
        """The error that ends a job in mode 'block': rows were flagged, or not all could be judged."""
        if mode != "block":
            return None
        if self.flagged_rows and self.listed:
            first = self.listed[0]
            return DataError(
                f"The job is refused by the moderation of its training data: {self.flagged_rows} of {self.rows} rows "
                f"are flagged, the first at line {first.line} ({', '.join(first.categories)}; {first.path}). Remove "
                "these rows, or set `moderation` to 'warn'.",
                param="training_file",
                code="training_data_flagged",
            )
        if self.fault is not None:
            return DataError(
                f"The job is refused because its training data could not be moderated. {self.fault.message}",
                param="training_file",
                code="moderation_unavailable",
            )
        return None


def judge_file(
    path: Path, settings: Settings, progress: Callable[[int, int], None] | None = None
) -> ModerationReport | None:
    """The report on the rows of `path`; None if the setting `moderation` is 'off'. Never raises for the service.

    In mode 'block' call `refusal` on it; in mode 'warn' a service that is down leaves a report with its `fault`.
    """
    if settings.moderation == "off":
        return None
    try:
        judge = open_judge(settings)
    except JudgeUnavailable as fault:
        return ModerationReport(settings.moderation_model or "unknown", Coverage((), "none"), fault=fault)
    return judge_rows(file_rows(path, progress), judge)


def file_rows(path: Path, progress: Callable[[int, int], None] | None = None) -> Iterator[JudgedRow]:
    """The texts of each row without errors."""
    size = path.stat().st_size
    for chunk in chunks(path):
        if not chunk.too_long:
            yield from _chunk_rows(read_chunk(path, chunk), chunk.first_line)
        if progress is not None:
            progress(chunk.offset + chunk.length, size)


def _chunk_rows(data: bytes, first_line: int) -> Iterator[JudgedRow]:
    lines = data.split(b"\n")
    marks, plain = key_marks(data, lines), PlainRows()
    for at in range(0, len(lines), BLOCK_ROWS):
        block = lines[at : at + BLOCK_ROWS]
        taken = plain.take(block, first_line + at, marks[at : at + BLOCK_ROWS])
        for number, (raw, row) in enumerate(zip(block, taken, strict=True), start=first_line + at):
            if row is not None:
                yield number, [(f"messages[{index}].content", text) for index, text in enumerate(row.texts)]
            elif texts := _texts(raw):
                yield number, texts


def _texts(raw: bytes) -> list[tuple[str, str]]:
    if not raw or raw.isspace():
        return []
    try:
        value = parse_line(raw)
    except BrokenLine:
        return []
    if not isinstance(value, dict) or any(CODES[fault.code].severity == "error" for fault in row_faults(value)):
        return []
    found = row_texts(value)
    return [(path, text) for path, text in zip(found.paths, found.texts, strict=True) if text]


def judge_rows(rows: Iterable[JudgedRow], judge: Judge) -> ModerationReport:
    """The report; a judge that gives up ends it early, with the reason in `fault`."""
    report = ModerationReport(judge.name, judge.coverage)
    known: dict[bytes, Verdict | None] = {}
    waiting: list[JudgedRow] = []
    try:
        for row in rows:
            waiting.append(row)
            if len(waiting) == ROWS_AT_ONCE:
                _judge(waiting, judge, known, report)
                waiting = []
        _judge(waiting, judge, known, report)
    except JudgeUnavailable as fault:
        report.fault = fault
    report.coverage = judge.coverage  # a service shows it by its answers
    return report


def _judge(
    rows: Sequence[JudgedRow], judge: Judge, known: dict[bytes, Verdict | None], report: ModerationReport
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
    known.update(zip(new, judge.judge(list(new.values())), strict=True))
    for row, (line, texts) in zip(keys, rows, strict=True):
        _add(report, line, [(path, known[key]) for key, (path, _) in zip(row, texts, strict=True)])


def _key(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _add(report: ModerationReport, line: int, verdicts: Sequence[tuple[str, Verdict | None]]) -> None:
    unread = sum(verdict is None for _, verdict in verdicts)
    flagged = [(path, verdict) for path, verdict in verdicts if verdict is not None and verdict.flagged]
    report.rows += 1
    report.texts += len(verdicts)
    report.unread_texts += unread
    report.unread_rows += unread > 0
    if not flagged:
        return
    categories = tuple(name for name in CATEGORIES if any(name in verdict.flagged for _, verdict in flagged))
    for name in categories:
        report.by_category[name] = report.by_category.get(name, 0) + 1
    report.flagged_rows += 1
    if len(report.listed) < LISTED:
        scores = {name: max(verdict.scores.get(name, 0.0) for _, verdict in flagged) for name in categories}
        worst = max(flagged, key=lambda one: max(one[1].scores.values(), default=0.0))
        report.listed.append(FlaggedRow(line, worst[0], categories, scores))
