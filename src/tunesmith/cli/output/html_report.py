"""A check's report as one HTML page, which brings its styles and charts along."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tunesmith.check.fix.preview import fix_sentence
from tunesmith.check.report.file_report import Distribution, Report
from tunesmith.check.report.histogram import Box, Plot
from tunesmith.check.report.mask_preview import Preview, visible
from tunesmith.check.rules.pii_kinds import NAMES
from tunesmith.cli.output.check_report import split_sentence
from tunesmith.cli.output.estimate_table import openai_answers, openai_training
from tunesmith.cli.output.terminal import percentages, plural
from tunesmith.estimate.job_estimate import Estimate
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Group, grouped

PLOT = Plot(width=320, height=150, left=34, right=8, top=8, bottom=32, gap=1)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram; `label` is shown under the pointer."""

    box: Box
    label: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A label of an axis, at its position."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A histogram of rows; `unit` is what the horizontal axis counts."""

    title: str
    unit: str
    spread: Distribution
    bars: tuple[Bar, ...]
    median_x: float
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def report_html(report: Report, estimate: Estimate | None = None, previews: Sequence[Preview] = ()) -> str:
    """Returns a whole HTML document, with everything from the dataset escaped."""
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            estimate=estimate,
            previews=previews,
            charts=_charts(report),
            codes=CODES,
            listed=_listed(report),
            counts=sorted(report.counts.items(), key=lambda one: (CODES[one[0]].severity, -one[1])),
            risks=_risks(report.sections),
            fixable=fix_sentence(report),
            split=split_sentence(report),
            plot=PLOT,
            version=version("tunesmith"),
            today=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def _listed(report: Report) -> list[tuple[str, list[Group], int, int]]:
    """The findings by title; how many are listed, and how many there are."""
    found = [("Errors", grouped(report.errors, report.counts), len(report.errors), report.error_count)]
    if (other := report.validation) is not None:
        title = "Errors in the validation file"
        found.append((title, grouped(other.errors, other.counts), len(other.errors), other.error_count))
    warnings = grouped(report.warnings, report.counts)
    return [*found, ("Warnings", warnings, len(report.warnings), report.warning_count)]


def _charts(report: Report) -> list[Chart]:
    named = (
        ("Tokens a row, as OpenAI counts", "tokens", report.per_row.tokens),
        ("Tokens a row, as the base counts", "tokens", report.base.lengths if report.base else None),
        ("Learned tokens a row", "tokens", report.per_row.learned_tokens),
        ("Messages a row", "messages", report.per_row.messages),
    )
    return [_chart(title, unit, spread) for title, unit, spread in named if spread is not None]


def _chart(title: str, unit: str, spread: Distribution) -> Chart:
    edges, most = spread.bins, max(spread.counts, default=0) or 1
    bars = tuple(
        Bar(box, f"{edges[at]:,.0f} to {edges[at + 1]:,.0f} {unit}: {plural(count, 'row')}")
        for at, (box, count) in enumerate(zip(PLOT.boxes(spread.counts), spread.counts, strict=True))
    )
    values = [edges[0] + (edges[-1] - edges[0]) * part for part in (0, 0.5, 1)]
    ticks = tuple(Tick(PLOT.across(value, edges), f"{value:,.0f}") for value in values)
    up = (Tick(PLOT.floor, "0"), Tick(PLOT.top, f"{most:,.0f}"))
    return Chart(title, unit, spread, bars, PLOT.across(spread.median, edges), ticks, up)


def _risks(sections: JsonObject) -> dict[str, str]:
    """A line for each of the further checks that was made."""
    found = {}
    for name, title in (("duplicates", "Duplicates"), ("near_duplicates", "Near-duplicates")):
        if (repeated := _number(sections, name, "rows")) is not None:
            found[title] = (
                f"{plural(repeated, 'row')} that repeat{'s' if repeated == 1 else ''} another" if repeated else "none"
            )
    if (rows := _number(sections, "leaks", "validation_rows")) is not None:
        exact, near = _number(sections, "leaks", "exact") or 0, _number(sections, "leaks", "near") or 0
        found["Validation file"] = (
            f"{exact + near:,} of its {plural(rows, 'row')} are in the training file too ({near:,} nearly the same)"
            if exact or near
            else f"none of its {plural(rows, 'row')} is in the training file too"
        )
    private = _object(sections.get("personal_data"))
    if "rows_with" in private:
        kinds = [
            f"{NAMES[kind].partition(' ')[2]} in {plural(int(str(rows)), 'row')}"
            for kind, rows in _object(private["rows_with"]).items()
        ]
        found["Personal data"] = ", ".join(kinds) or "none found"
    judged = _object(sections.get("moderation"))
    if judged:
        rows, flagged = _number(sections, "moderation", "rows") or 0, _number(sections, "moderation", "flagged_rows")
        missing = _object(judged.get("not_covered")).get("categories")
        uncovered = f" Not covered: {', '.join(map(str, missing))}." if isinstance(missing, list) and missing else ""
        count = f"{flagged or 'none'} of {plural(rows, 'row')} flagged"
        found["Moderation"] = f"{count}, by {judged.get('backend')}.{uncovered}"
    return found


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _number(sections: JsonObject, section: str, key: str) -> int | None:
    value = _object(sections.get(section)).get(key)
    return value if isinstance(value, int) else None


def _coded(text: str) -> Markup:
    """The text escaped, and shown as code between backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  (escaped just before)


@cache
def environment() -> Environment:
    """The templates of our pages, with what they call."""
    environment = Environment(
        loader=PackageLoader("tunesmith.cli.output"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"coded": _coded, "visible": visible, "percentages": percentages}
    environment.filters |= {"plural": plural, "openai_training": openai_training, "openai_answers": openai_answers}
    return environment
