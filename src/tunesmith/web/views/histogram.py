"""A histogram as the bars of an SVG and the rows of a table."""

from dataclasses import dataclass
from typing import cast

from tunesmith.jsonvalue import JsonObject, JsonValue

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 190, 44, 10, 26  # in the drawing's own units
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - 10, HEIGHT - TOP - BOTTOM


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar and what it stands for: so many rows of `low` to `high`."""

    x: float
    y: float
    width: float
    height: float
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
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = LEFT + PLOT_WIDTH
    top: int = TOP
    floor: int = TOP + PLOT_HEIGHT


def histogram(spread: JsonValue) -> Histogram | None:
    """The histogram of a distribution as a report's JSON has it.

    None where there is none.
    """
    if not isinstance(spread, dict):
        return None
    drawn = cast(JsonObject, spread["histogram"])
    edges, counts = cast(list[float], drawn["edges"]), cast(list[int], drawn["counts"])
    most = max(counts, default=0) or 1
    wide = PLOT_WIDTH / max(1, len(counts))
    bars = tuple(
        _bar(LEFT + at * wide, wide, count / most, (edges[at], edges[at + 1], count)) for at, count in enumerate(counts)
    )
    low, high = edges[0], edges[-1]
    numbers = {name: round(cast(float, spread[name])) for name in ("min", "median", "p95", "max")}
    place = (cast(float, spread["median"]) - low) / max(high - low, 1e-9)
    return Histogram(
        bars,
        most,
        numbers["min"],
        numbers["median"],
        numbers["p95"],
        numbers["max"],
        round(LEFT + place * PLOT_WIDTH, 1),
    )


def _bar(x: float, wide: float, share: float, values: tuple[float, float, int]) -> Bar:
    low, high, rows = values
    tall = round(PLOT_HEIGHT * share, 1)
    return Bar(
        round(x, 1),
        round(TOP + PLOT_HEIGHT - tall, 1),
        round(max(1.0, wide - 2), 1),
        tall,
        round(low),
        round(high),
        rows,
    )
