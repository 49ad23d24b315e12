"""The report as one HTML file that needs nothing else: styles and charts are inside, and it asks no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from tunesmith.data.codes import CODES
from tunesmith.data.estimate import Estimate
from tunesmith.data.preview import Preview
from tunesmith.data.report import Distribution, Report

CHART_WIDTH, CHART_HEIGHT = 320, 96


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram in the chart's own units; `label` is what a pointer shows."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    spread: Distribution
    bars: tuple[Bar, ...]
    median_x: float


def report_html(report: Report, estimate: Estimate | None = None, previews: Sequence[Preview] = ()) -> str:
    """A whole HTML document. Everything that comes from the file is escaped."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            estimate=estimate,
            previews=previews,
            charts=_charts(report),
            codes=CODES,
            width=CHART_WIDTH,
            height=CHART_HEIGHT,
        )
    )


def _charts(report: Report) -> list[Chart]:
    named = {
        "Messages a row": report.messages_per_row,
        f"Tokens a row, as OpenAI counts ({report.encoding})": report.tokens_per_row,
        "Learned tokens a row": report.learned_per_row,
        "Tokens a row, as the base counts": report.base.lengths if report.base else None,
    }
    return [_chart(title, spread) for title, spread in named.items() if spread is not None]


def _chart(title: str, spread: Distribution) -> Chart:
    most = max(spread.counts, default=0) or 1
    wide = CHART_WIDTH / max(1, len(spread.counts))
    bars = tuple(
        Bar(
            x=round(index * wide, 2),
            y=round(CHART_HEIGHT * (1 - count / most), 2),
            width=round(max(1.0, wide - 1), 2),
            height=round(CHART_HEIGHT * count / most, 2),
            label=f"{spread.bins[index]:g} to {spread.bins[index + 1]:g}: {count:,} rows",
        )
        for index, count in enumerate(spread.counts)
    )
    low, high = spread.bins[0], spread.bins[-1]
    return Chart(title, spread, bars, round((spread.median - low) / max(high - low, 1e-9) * CHART_WIDTH, 2))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tunesmith.data"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
