"""Thinned curves: bounded, with the extremes, and the same for the same steps."""

import math
import random

import pytest

from tunesmith.web.live.thinning import MOST_POINTS, Curve, thinned


@pytest.mark.parametrize("steps", [1, 299, 600, 601, 5_000, 100_000])
def test_a_curve_keeps_its_ends_and_extremes_and_few_points(steps: int) -> None:
    rnd = random.Random(steps)
    points = [(step, rnd.random()) for step in range(1, steps + 1)]
    points[steps // 3] = (steps // 3 + 1, 99.0)  # one peak of one step
    points[steps // 2] = (steps // 2 + 1, -99.0)
    curve = Curve()
    for step, value in points:
        curve.add(step, value)
    kept = curve.points()
    assert len(kept) <= MOST_POINTS
    assert set(kept) <= set(points)
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})
    by_value = sorted(points, key=lambda one: one[1])
    assert {points[0], points[-1], by_value[0], by_value[-1]} <= set(kept)
    assert len(kept) >= min(steps, 200)


def test_a_short_curve_is_whole() -> None:
    points = [(step, float(step % 7)) for step in range(1, 150)]
    assert thinned(points, MOST_POINTS) == points


def test_who_goes_on_from_a_range_has_the_same_curve() -> None:
    """A viewer that replaces its points from the range of its last step on has what a new viewer gets."""
    rnd, curve, mine, width = random.Random(1), Curve(100), list[tuple[int, float]](), 0
    seen = 0
    for step in range(1, 3_000):
        curve.add(step, rnd.random())
        if step % 37 == 0:
            since = curve.start_of(seen) if curve.width == width else 0
            mine = [point for point in mine if point[0] < since] + curve.points(since)
            seen, width = step, curve.width
            assert mine == curve.points()


def test_what_is_no_number_or_comes_twice_is_left_out() -> None:
    curve = Curve()
    for step, value in ((1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0), (4, 9.0), (2, 9.0)):
        curve.add(step, value)
    assert curve.points() == [(1, 1.0), (4, 2.0)]
    assert Curve().points() == []
