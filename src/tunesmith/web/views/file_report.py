"""A file's report as its page shows it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from tunesmith.check.report.openai_wording import first_error
from tunesmith.check.rules.file_rules import method_of
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Finding
from tunesmith.web.views.histogram import Histogram, histogram

PAGE = 15  # findings, each with its row's text
FIX_COMMAND = "`tunesmith fix"
NOT_BY_BUTTON = ("--", "`tunesmith fix` does not", "converts only", "; then `tunesmith fix")
PAIRS = 8  # of duplicates


@dataclass(frozen=True, slots=True)
class Shown:
    """A finding; `place` is its row's text with the mark, None where it was not read."""

    finding: Finding
    place: JsonValue = None


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one code on this page.

    `cure` is the one that all of them have, else empty.
    """

    code: str
    severity: str
    meaning: str
    cure: str
    total: int
    listed: int
    findings: tuple[Shown, ...]

    @property
    def by_fix(self) -> bool:
        """Whether the page's own button does what `cure` says."""
        return is_done_by_fix(self.cure)


def is_done_by_fix(cure: str) -> bool:
    """Whether `tunesmith fix` does what a cure says, and needs to be told no more."""
    return FIX_COMMAND in cure and not any(words in cure for words in NOT_BY_BUTTON)


@dataclass(frozen=True, slots=True)
class Findings:
    """A page of a report's findings; `listed` of `total` are in the report at all.

    `may_grow`: some rows have an error, and not everything else was looked at in them.
    """

    groups: tuple[Group, ...]
    page: int
    pages: int
    listed: int
    total: int
    may_grow: bool

    @property
    def places(self) -> list[JsonValue]:
        """[line, path] of the findings whose rows can be shown, in their order."""
        return [[one.line, one.path] for one in self._with_rows()]

    def _with_rows(self) -> list[Finding]:
        return [shown.finding for group in self.groups for shown in group.findings if shown.finding.line is not None]


def findings_page(report: JsonObject, page: int, places: list[JsonValue] | None = None) -> Findings:
    """A page of the findings, errors first, grouped by code.

    `places` are the texts of their rows, in the order of the page's own `places`.
    """
    found = [Finding.from_json(cast(JsonObject, one)) for one in (*_list(report, "errors"), *_list(report, "warnings"))]
    codes = list(dict.fromkeys(one.code for one in found))
    ordered = sorted(found, key=lambda one: (one.severity != "error", codes.index(one.code)))
    pages = max(1, -(-len(ordered) // PAGE))
    page = min(max(1, page), pages)
    texts = iter(places or ())
    shown = [
        Shown(one, next(texts, None) if one.line is not None else None)
        for one in ordered[(page - 1) * PAGE : page * PAGE]
    ]
    totals = cast(Mapping[str, int], report["counts"])
    listed = Counter(one.code for one in found)
    groups = [
        _group(code, [one for one in shown if one.finding.code == code], totals[code], listed[code])
        for code in dict.fromkeys(one.finding.code for one in shown)
    ]
    return Findings(tuple(groups), page, pages, len(found), sum(totals.values()), report["bad_rows"] != 0)


def _group(code: str, shown: list[Shown], total: int, listed: int) -> Group:
    cures = {one.finding.fix for one in shown}
    known = CODES.get(code)
    meaning = known.meaning if known else shown[0].finding.message
    cure = cures.pop() if len(cures) == 1 else ""
    return Group(code, shown[0].finding.severity, meaning, cure, total, listed, tuple(shown))


@dataclass(frozen=True, slots=True)
class FileReport:
    """The numbers of a report.

    `method` is what a job would train these rows with, None where none does.
    """

    ok: bool
    errors: int
    warnings: int
    rows: int
    bad_rows: int
    kind: str | None
    method: str | None
    tokens: int
    learned_tokens: int
    languages: tuple[tuple[str, float], ...]
    roles: tuple[tuple[str, int], ...]
    lengths: Histogram | None
    duplicate_rows: int
    pairs: tuple[tuple[int, int, int], ...]  # line, line of one that repeats it, rows of the group
    first: Finding | None  # the error to begin with


def file_report(report: JsonObject) -> FileReport:
    """What the page shows of a report in the store."""
    counted = cast(Mapping[str, int], report)
    openai = cast(Mapping[str, int], report["openai"])
    kind = cast(str | None, report["kind"])
    return FileReport(
        ok=report["ok"] is True,
        errors=counted["error_count"],
        warnings=counted["warning_count"],
        rows=counted["examples"],
        bad_rows=counted["bad_rows"],
        kind=kind,
        method=method_of(kind),  # type: ignore[arg-type]  # of our own making
        tokens=openai["tokens"],
        learned_tokens=openai["learned_tokens"],
        languages=_languages(report),
        roles=tuple(cast(dict[str, int], report["roles"]).items()),
        lengths=histogram(_dict(report, "distributions").get("tokens_per_row")),
        duplicate_rows=int(str(_dict(report, "duplicates").get("rows", 0))),
        pairs=_pairs(report),
        first=_first(report),
    )


def _pairs(report: JsonObject) -> tuple[tuple[int, int, int], ...]:
    found = []
    for group in cast(list[JsonObject], _dict(report, "duplicates").get("largest_groups", []))[:PAIRS]:
        lines = cast(list[int], group["lines"])
        if len(lines) > 1:
            found.append((lines[0], lines[1], cast(int, group["rows"])))
    return tuple(found)


def _first(report: JsonObject) -> Finding | None:
    return first_error([Finding.from_json(cast(JsonObject, one)) for one in _list(report, "errors")])


def _languages(report: JsonObject) -> tuple[tuple[str, float], ...]:
    shares = _dict(report, "languages").get("shares")
    found = cast(dict[str, float], shares) if isinstance(shares, dict) else {}
    return tuple(sorted(found.items(), key=lambda one: -one[1])[:5])


def _dict(report: JsonObject, name: str) -> JsonObject:
    value = report.get(name)
    return value if isinstance(value, dict) else {}


def _list(report: JsonObject, name: str) -> list[JsonValue]:
    value = report.get(name)
    return value if isinstance(value, list) else []
