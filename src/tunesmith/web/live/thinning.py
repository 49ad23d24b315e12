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
class Range:
    """The lowest and the highest point of some neighbouring steps."""

    number: int
    low: Point
    high: Point


@dataclass(slots=True)
class Curve:
    """Points by step, which must grow. `most` is the number of points that are kept."""

    most: int = MOST_POINTS
    width: int = 1
    first: Point | None = None
    last: Point | None = None
    _ranges: list[Range] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Adds a point; one that is no number, or not after the last, is left out."""
        if not math.isfinite(value) or (self.last is not None and step <= self.last[0]):
            return
        self.last = point = (step, value)
        self.first = self.first or point
        number = step // self.width
        if not self._ranges or (newest := self._ranges[-1]).number != number:
            self._ranges.append(Range(number, point, point))
            if 2 * len(self._ranges) + 2 > self.most:
                self._halve()
        elif value < newest.low[1]:
            newest.low = point
        elif value > newest.high[1]:
            newest.high = point

    def start_of(self, step: int) -> int:
        """The first step of the range that `step` is in: from there on points may change."""
        return step // self.width * self.width

    def points(self, since: int = 0) -> list[Point]:
        """The points from a range's first step on, by step."""
        found = {point for one in self._ranges if one.number * self.width >= since for point in (one.low, one.high)}
        found |= {point for point in (self.first, self.last) if point is not None and point[0] >= since}
        return sorted(found)

    def _halve(self) -> None:
        """Makes one range of each two, until there are few enough."""
        while 2 * len(self._ranges) + 2 > self.most:
            self.width *= 2
            ranges, self._ranges = self._ranges, []
            for one in ranges:
                one.number = one.low[0] // self.width
                if self._ranges and (before := self._ranges[-1]).number == one.number:
                    before.low = min(before.low, one.low, key=_value)
                    before.high = max(before.high, one.high, key=_value)
                else:
                    self._ranges.append(one)


def thinned(points: Iterable[Point], most: int) -> list[Point]:
    """At most `most` of some points, the extremes among them."""
    curve = Curve(most)
    for step, value in points:
        curve.add(step, value)
    return curve.points()


def _value(point: Point) -> float:
    return point[1]
