"""What the check found, and a log that counts everything but lists only the first."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.codes import CODES, Severity

LISTED = 100  # of each severity; all are counted
LISTED_WARNINGS = 10
VALUE_CHARS = 60
_COLUMN = "column "  # begins the path of a fault in a line's syntax


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in one row.

    `path` is as in `messages[2].content`, "" for the row itself; in a line that is not JSON it is `column 7`, where
    `value` stands. `fix` is closer than its code's. `said` is how OpenAI's service says it, where that is known.
    """

    code: str
    path: str
    message: str
    value: str | None = None
    fix: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault with its line (from 1; None for the file as a whole)."""

    code: str
    severity: Severity
    line: int | None
    path: str
    message: str
    fix: str
    value: str | None = None
    said: str | None = None  # as OpenAI's service says it, if that is known and other than `message`

    @property
    def text(self) -> str:
        """The message, with what stands at the place where a line is not JSON."""
        if not self.path.startswith(_COLUMN) or not self.value:
            return self.message
        return f"{self.message.rstrip('.')}: `{self.value}`."

    def to_json(self) -> JsonObject:
        """The finding as reports show it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "line": self.line,
            "path": self.path,
            "message": self.message,
            "cure": self.fix,
            "value": self.value,
            **({"said": self.said} if self.said else {}),
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> "Finding":
        """The finding that `to_json` made `value` of; TypeError for anything else."""
        return cls(**{"fix" if name == "cure" else name: part for name, part in value.items()})  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.line is None:
            return f"{self.message} {self.fix}"
        return f"line {self.line}{', ' + self.path if self.path else ''}: {self.text} {self.fix}"


def finding(code: str, line: int | None, message: str, *, path: str = "", value: str | None = None) -> Finding:
    """A finding with the severity and fix of its code."""
    return Finding(code, CODES[code].severity, line, path, message, CODES[code].fix, value)


def at_line(fault: Fault, line: int) -> Finding:
    """The fault as a finding about a line."""
    code = CODES[fault.code]
    fix = fault.fix or code.fix
    return Finding(fault.code, code.severity, line, fault.path, fault.message, fix, fault.value, fault.said)


def shorten(value: JsonValue) -> str:
    """The value as JSON, short enough for one line of a message, and printable."""
    try:
        # Cut before encoding: a 10 MB string must not be escaped only to be thrown away.
        text = orjson.dumps(value[:200] if isinstance(value, str | list) else value).decode()
    except (orjson.JSONEncodeError, RecursionError):
        text = ascii(value)[:400]
    text = text.translate(_UNPRINTABLE)
    return text if len(text) <= VALUE_CHARS else text[: VALUE_CHARS - 1] + "…"


_UNPRINTABLE = {**dict.fromkeys(range(0x7F, 0xA0), "\ufffd"), **dict.fromkeys(range(0x202A, 0x202F), "\ufffd")}


@dataclass(frozen=True, slots=True)
class Group:
    """Findings that say the same of several lines.

    The first of them, all lines listed, and how many there are in all.
    """

    first: Finding
    lines: tuple[int, ...]
    total: int

    @property
    def path(self) -> str:
        """The path that the findings share; of columns that differ, the first line's."""
        path = self.first.path
        if not path.startswith(_COLUMN) or self.total == 1:
            return path
        return f"{path} of line {self.first.line}"

    @property
    def where(self) -> str:
        """The place in words, such as `file`, `line 3` or `lines 3, 7, 9 and 40 more`."""
        if not self.lines:
            return "file"
        distinct = list(dict.fromkeys(self.lines))
        shown = ", ".join(f"{line}" for line in distinct[:3])
        more = len(distinct) - 3 if self.total == len(self.lines) else self.total - 3
        return f"line{'s' if len(distinct) > 1 else ''} {shown}{f' and {more:,} more' if more > 0 else ''}"


def grouped(listed: Iterable[Finding], counts: Mapping[str, int] | None = None) -> list[Group]:
    """The listed findings, those that say the same together.

    `counts` says how many there are of each code.
    """
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for one in listed:
        path = _COLUMN if one.path.startswith(_COLUMN) else one.path
        groups.setdefault((one.code, path, one.message), []).append(one)
    several = Counter(code for code, _, _ in groups)
    found = []
    for (code, _, _), group in groups.items():
        # Of a code that only ever says one thing, what is not listed says it too.
        total = (counts or {}).get(code, 0) if several[code] == 1 else 0
        lines = tuple(one.line for one in group if one.line is not None)
        found.append(Group(group[0], lines, max(total, len(group))))
    return found


def in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings by line; those of the file as a whole come last.

    Warnings of a line are sorted by code; errors stay as they were found, the cause before what follows from it.
    """
    return tuple(sorted(found, key=_place))


def _place(found: Finding) -> tuple[bool, int, str]:
    return found.line is None, found.line or 0, found.code if found.severity == "warning" else ""


def count_of(counts: Mapping[str, int], severity: Severity) -> int:
    """How many findings of a severity there are among `counts`, by code."""
    return sum(count for code, count in counts.items() if CODES[code].severity == severity)


@dataclass(slots=True)
class FindingLog:
    """Counts every finding by code and keeps some.

    The first of each code, and the first `LISTED` of each severity.

    Of one warning at most `LISTED_WARNINGS` are kept, so that a common one does not crowd out the rest.
    """

    counts: dict[str, int] = field(default_factory=dict)
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    _kept: dict[str, int] = field(default_factory=dict)

    def add(self, found: Finding) -> None:
        """Counts a finding and keeps it if there is room."""
        self.counts[found.code] = self.counts.get(found.code, 0) + 1
        self._keep(found)

    def add_fault(self, fault: Fault, line: int) -> None:
        """Like `add`, but makes a finding only if it is to be kept."""
        self.counts[fault.code] = self.counts.get(fault.code, 0) + 1
        if self._wants(fault.code):
            self._keep(at_line(fault, line))

    def extend(self, found: Iterable[Finding]) -> None:
        """Adds several findings."""
        for one in found:
            self.add(one)

    def merge(self, counts: dict[str, int], listed: Iterable[Finding]) -> None:
        """Adds another log's totals, and its listed findings as far as there is room."""
        for code, count in counts.items():
            self.counts[code] = self.counts.get(code, 0) + count
        for one in listed:
            self._keep(one)

    def total(self, severity: Severity) -> int:
        """How many findings of a severity there are, listed or not."""
        return count_of(self.counts, severity)

    def _keep(self, found: Finding) -> None:
        if self._wants(found.code):
            self._kept[found.code] = self._kept.get(found.code, 0) + 1
            (self.errors if found.severity == "error" else self.warnings).append(found)

    def _wants(self, code: str) -> bool:
        kept = self._kept.get(code, 0)
        if kept == 0:
            return True
        if CODES[code].severity == "error":
            return len(self.errors) < LISTED
        return kept < LISTED_WARNINGS and len(self.warnings) < LISTED
