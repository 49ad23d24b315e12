"""A histogram as the bars of an SVG and the rows of a table."""

from dataclasses import dataclass
from typing import cast

from tunesmith.check.report.histogram import Box, Plot
from tunesmith.jsonvalue import JsonObject, JsonValue

PLOT = Plot(width=640, height=190, left=44, right=10, top=10, bottom=26, gap=2)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar and what it stands for: so many rows of `low` to `high`."""

    box: Box
    low: int
    high: int
    rows: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """The bars, and the numbers that say the same in short."""

    bars: tuple[Bar, ...]
    most: int
    low: int
    median: int
    p95: int
    high: int
    median_x: float
    plot: Plot = PLOT


def histogram(spread: JsonValue) -> Histogram | None:
    """The histogram of a distribution as a report's JSON has it.

    None where there is none.
    """
    if not isinstance(spread, dict):
        return None
    drawn = cast(JsonObject, spread["histogram"])
    edges, counts = cast(list[float], drawn["edges"]), cast(list[int], drawn["counts"])
    bars = tuple(
        Bar(box, round(edges[at]), round(edges[at + 1]), count)
        for at, (box, count) in enumerate(zip(PLOT.boxes(counts), counts, strict=True))
    )
    numbers = {name: round(cast(float, spread[name])) for name in ("min", "median", "p95", "max")}
    return Histogram(
        bars,
        max(counts, default=0) or 1,
        numbers["min"],
        numbers["median"],
        numbers["p95"],
        numbers["max"],
        PLOT.across(cast(float, spread["median"]), edges),
    )
