"""Bars and values stand where their counts and edges say; the page and the report draw the same plot."""

import pytest

from tunesmith.check.report.histogram import Box, Plot

PLOT = Plot(width=130, height=70, left=20, right=10, top=5, bottom=15, gap=2)


def test_bars_stand_on_the_floor_side_by_side() -> None:
    assert (PLOT.end, PLOT.floor) == (120, 55)
    assert PLOT.boxes([5, 10, 0, 1]) == [
        Box(20.0, 30.0, 23.0, 25.0),
        Box(45.0, 5.0, 23.0, 50.0),
        Box(70.0, 55.0, 23.0, 0.0),
        Box(95.0, 50.0, 23.0, 5.0),
    ]
    assert PLOT.boxes([]) == []
    assert PLOT.boxes([0, 0])[1] == Box(70.0, 55.0, 48.0, 0.0)
    assert {one.width for one in PLOT.boxes([1] * 200)} == {1.0}


@pytest.mark.parametrize(("value", "at"), [(10, 20.0), (15, 45.0), (30, 120.0)])
def test_a_value_stands_between_the_edges(value: float, at: float) -> None:
    assert PLOT.across(value, [10, 20, 30]) == at


def test_a_single_value_stands_at_the_left() -> None:
    assert PLOT.across(7, [7, 7]) == 20.0
