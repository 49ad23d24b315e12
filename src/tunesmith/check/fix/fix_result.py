"""What `tunesmith fix` did, in numbers."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tunesmith.check.fix.fixed_row import FixedRow
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import LISTED, FindingLog


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row before and after its changes, in words.

    `after` is None for a row that is left out.
    """

    line: int
    before: bytes
    after: bytes | None
    changes: tuple[str, ...]


@dataclass(slots=True)
class FixResult:
    """The counts of what was changed and left out.

    `changed` counts rows by fix, `converted` by the shape they had, `dropped` by the keys they lost; `rewritten` is
    what was done to the file as a whole. `shown` are the first changed rows, if they are wanted; `dropped_rows` are the
    first that repeat others or are empty: line and which. `rows_in` = `rows_out` + `duplicates` + `empty` + `rejected`.
    """

    rows_in: int = 0
    rows_out: int = 0
    blank_lines: int = 0
    duplicates: int = 0
    empty: int = 0
    rejected: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    converted: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    changed_rows: int = 0
    rewritten: list[str] = field(default_factory=list)
    log: FindingLog = field(default_factory=FindingLog)
    rejected_file: str | None = None
    kind: str | None = None
    is_written: bool = False
    shown: list[RowChange] = field(default_factory=list)
    dropped_rows: list[tuple[int, str]] = field(default_factory=list)

    def drop(self, line: int, why: Literal["duplicate", "empty"]) -> None:
        """Counts a row that is left out, and keeps the first ones' lines."""
        if why == "empty":
            self.empty += 1
        else:
            self.duplicates += 1
        if len(self.dropped_rows) < LISTED:
            self.dropped_rows.append((line, why))

    @property
    def is_unchanged(self) -> bool:
        """Whether every row was sound, and the file is one of ours."""
        removed = self.blank_lines + self.duplicates + self.empty + self.rejected
        return not (removed or self.changed or self.converted or self.dropped or self.rewritten)

    def add(self, row: FixedRow, changes: Iterable[str]) -> None:
        """Counts a row that is written; `changes` are those of its text."""
        changes = [*changes]
        self.changed_rows += bool(changes or row.changed)
        for counts, names in ((self.changed, [*changes, *row.fixes]), (self.dropped, row.dropped)):
            for name in dict.fromkeys(names):
                counts[name] = counts.get(name, 0) + 1
        if row.shape is not None:
            self.converted[row.shape] = self.converted.get(row.shape, 0) + 1

    def to_json(self) -> JsonObject:
        """The result as `tunesmith fix --json` prints it."""
        return {
            "written": self.is_written,
            "kind": self.kind,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "blank_lines": self.blank_lines,
            "duplicates": self.duplicates,
            "empty": self.empty,
            "rejected": self.rejected,
            "rejected_file": self.rejected_file,
            "rewritten": list(self.rewritten),
            "converted": dict(self.converted),
            "dropped": dict(self.dropped),
            "changed_rows": self.changed_rows,
            "changed": dict(self.changed),
            "errors": [one.to_json() for one in self.log.errors],
        }
