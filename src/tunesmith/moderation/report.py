"""What a moderator said of a file's rows.

It is a section of the check's report, an event of a job, and the job's refusal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject
from tunesmith.moderation.moderator import CATEGORIES, Coverage, Mode, ModeratorUnavailable, Verdict
from tunesmith.rows.findings import Finding, finding

LISTED = 100


@dataclass(frozen=True, slots=True)
class FlaggedRow:
    """A flagged row.

    `path` is where the worst text is; `scores` are the highest of all the row's texts.
    """

    line: int
    path: str
    categories: tuple[str, ...]
    scores: dict[str, float]

    def to_json(self) -> JsonObject:
        """The row as reports show it."""
        return {"line": self.line, "path": self.path, "categories": list(self.categories), "scores": {**self.scores}}


@dataclass(slots=True, kw_only=True)
class ModerationCounts:
    """What a moderator said of some rows, in file order.

    `listed` are the first `LISTED` of the flagged rows.
    """

    rows: int = 0
    texts: int = 0
    unread_texts: int = 0
    unread_rows: int = 0
    flagged_rows: int = 0
    by_category: dict[str, int] = field(default_factory=dict)
    listed: list[FlaggedRow] = field(default_factory=list)

    def add(self, line: int, verdicts: Sequence[tuple[str, Verdict | None]]) -> None:
        """Adds a row; `verdicts` has path and verdict of each of its texts."""
        unread = sum(verdict is None for _, verdict in verdicts)
        flagged = [(path, verdict) for path, verdict in verdicts if verdict is not None and verdict.flagged]
        self.rows += 1
        self.texts += len(verdicts)
        self.unread_texts += unread
        self.unread_rows += unread > 0
        if not flagged:
            return
        categories = tuple(name for name in CATEGORIES if any(name in verdict.flagged for _, verdict in flagged))
        for name in categories:
            self.by_category[name] = self.by_category.get(name, 0) + 1
        self.flagged_rows += 1
        if len(self.listed) < LISTED:
            scores = {name: max(verdict.scores.get(name, 0.0) for _, verdict in flagged) for name in categories}
            worst = max(flagged, key=lambda one: max(one[1].scores.values(), default=0.0))
            self.listed.append(FlaggedRow(line, worst[0], categories, scores))

    def merge(self, later: "ModerationCounts") -> None:
        """Adds the counts of rows that follow in the file."""
        for name in ("rows", "texts", "unread_texts", "unread_rows", "flagged_rows"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        for name, rows in later.by_category.items():
            self.by_category[name] = self.by_category.get(name, 0) + rows
        self.listed += later.listed[: LISTED - len(self.listed)]


@dataclass(slots=True, kw_only=True)
class ModerationReport(ModerationCounts):
    """The moderation of a file.

    `rows` and `texts` were moderated; `unread_texts` could not be, for their language or the answer.

    `fault` says why it stopped before the end; then the numbers are those up to there.
    """

    backend: str
    coverage: Coverage
    fault: ModeratorUnavailable | None = None

    @property
    def complete(self) -> bool:
        """Whether all rows were moderated."""
        return self.fault is None

    def to_json(self) -> JsonObject:
        """The section `moderation` of a report."""
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
            return f"Moderation broke off after {self.rows} row{'' if self.rows == 1 else 's'}: {self.fault.message}"
        held = "1 row holds" if self.unread_rows == 1 else f"{self.unread_rows} rows hold"
        unread = f" {held} text it cannot read." if self.unread_rows else ""
        missing = f" Not covered: {', '.join(self.coverage.missing)}." if self.coverage.missing else ""
        what = "no row" if not self.flagged_rows else "1 row" if self.flagged_rows == 1 else f"{self.flagged_rows} rows"
        by = ", ".join(f"{name} {count}" for name, count in self.by_category.items())
        return f"Moderation by {self.backend} flagged {what} of {self.rows}{f' ({by})' if by else ''}.{unread}{missing}"

    def refusal(self, mode: Mode) -> DataError | None:
        """The error that ends a job in mode 'block'.

        Rows were flagged, or not all could be moderated.
        """
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
