"""A small curve as the points of an SVG polyline."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.web.live.thinning import Point, thinned

WIDTH, HEIGHT, MARGIN, MOST = 160, 36, 2, 120


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A drawn curve: `points` of the polyline, and two values for who does not see it."""

    points: str
    first: float
    last: float


def sparkline(curve: Sequence[Point]) -> Sparkline | None:
    """The curve over its own range; None for less than two points."""
    kept = thinned(curve, MOST)
    if len(kept) < 2:
        return None
    values = [value for _, value in kept]
    low, high, start, end = min(values), max(values), kept[0][0], kept[-1][0]
    across = (WIDTH - 2 * MARGIN) / (end - start)
    down = (HEIGHT - 2 * MARGIN) / (high - low) if high > low else 0.0
    drawn = (f"{MARGIN + (step - start) * across:.1f},{MARGIN + (high - value) * down:.1f}" for step, value in kept)
    return Sparkline(" ".join(drawn), values[0], values[-1])
