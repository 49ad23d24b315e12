"""Intervals as drawings: a dot with its whiskers on a scale, in units of an SVG."""

from dataclasses import dataclass

from tunesmith.evals.statistics import Interval

WIDTH = 240  # of every drawing
EDGE = 8  # kept free at both ends, for dots


@dataclass(frozen=True, slots=True)
class Whisker:
    """Where an interval's ends and its value are drawn."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale from `start` to `end`; values beyond are drawn at its ends."""

    start: float = 0.0
    end: float = 1.0

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        share = (min(max(value, self.start), self.end) - self.start) / ((self.end - self.start) or 1.0)
        return round(EDGE + share * (WIDTH - 2 * EDGE), 1)

    def draw(self, interval: Interval) -> Whisker:
        """The interval's place."""
        return Whisker(self.at(interval.low), self.at(interval.value), self.at(interval.high))


def around_zero(intervals: list[Interval]) -> Scale:
    """A scale with zero in its middle, wide enough for all of these.

    It has five points of a hundred at least.
    """
    most = max([0.05, *(abs(end) for one in intervals for end in (one.low, one.high))])
    return Scale(-most, most)


def read_interval(value: object) -> Interval:
    """The interval in a file's `{"value": …, "low": …, "high": …}`.

    Raises KeyError, TypeError or ValueError.
    """
    if not isinstance(value, dict):
        raise TypeError("an interval is an object")
    return Interval(float(value["value"]), float(value["low"]), float(value["high"]))
