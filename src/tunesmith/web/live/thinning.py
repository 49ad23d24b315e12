"""A curve with a bounded number of points, whatever the number of steps.

The steps are cut into ranges of one width, and of each the lowest and the highest point are kept; with the first and
the last point of all. When there are too many ranges, each two become one. So a peak is never lost, adding a point
costs the same for every step, and the same steps always give the same points.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_POINTS = 600

Point = tuple[int, float]


@dataclass(slots=True)
class Curve:
    """Points by step, which must grow. `most` is the number of points that are kept."""

    most: int = MOST_POINTS
    width: int = 1
    first: Point | None = None
    last: Point | None = None
    _ranges: list[tuple[int, Point, Point]] = field(default_factory=list)  # number, lowest, highest

    def add(self, step: int, value: float) -> None:
        """Adds a point; one that is no number, or not after the last, is left out."""
        if not math.isfinite(value) or (self.last is not None and step <= self.last[0]):
            return
        self.first = self.first or (step, value)
        self.last = point = (step, value)
        self._join((step // self.width, point, point))
        while 2 * len(self._ranges) + 2 > self.most:
            self.width *= 2
            ranges, self._ranges = self._ranges, []
            for _, low, high in ranges:
                self._join((low[0] // self.width, low, high))

    def start_of(self, step: int) -> int:
        """The first step of the range that `step` is in: from there on points may change."""
        return step // self.width * self.width

    def points(self, since: int = 0) -> list[Point]:
        """The points from a range's first step on, by step."""
        found = {point for number, low, high in self._ranges if number * self.width >= since for point in (low, high)}
        found |= {point for point in (self.first, self.last) if point is not None and point[0] >= since}
        return sorted(found)

    def _join(self, new: tuple[int, Point, Point]) -> None:
        number, low, high = new
        if self._ranges and self._ranges[-1][0] == number:
            _, lowest, highest = self._ranges.pop()
            low, high = min(lowest, low, key=_value), max(highest, high, key=_value)
        self._ranges.append((number, low, high))


def thinned(points: Iterable[Point], most: int) -> list[Point]:
    """At most `most` of some points, the extremes among them."""
    curve = Curve(most)
    for step, value in points:
        curve.add(step, value)
    return curve.points()


def _value(point: Point) -> float:
    return point[1]
