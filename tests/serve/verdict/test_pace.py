"""How many questions are begun: the last one ends in time, and no time is left over that had room for one."""

import random
from heapq import heapify, heappop, heappush

import pytest

from tunesmith.estimate.verdict_time import GRACE_SECONDS, LEAST, TIME_SHARE
from tunesmith.serve.verdict.pace import AT_ONCE, Pace


class Clock:
    """A clock that goes where it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(until: float, seconds: list[float]) -> tuple[int, float]:
    """(questions begun, when the last one ended), `AT_ONCE` of them at a time."""
    clock = Clock()
    pace, slots = Pace(until, clock), [(0.0, 0.0)] * AT_ONCE
    heapify(slots)
    ended = 0.0
    for number, took in enumerate(seconds):
        clock.now, before = heappop(slots)
        if before:
            pace.took(before)
        if not pace.admits(number):
            return number, ended
        heappush(slots, (clock.now + took, took))
        ended = max(ended, clock.now + took)
    return len(seconds), ended


@pytest.mark.parametrize("took", [0.5, 2.0, 4.1])
def test_questions_end_in_time_and_use_it(took: float) -> None:
    begun, ended = asked(60.0, [took] * 1000)
    assert begun >= LEAST
    assert 60.0 - took < ended <= 60.0


def test_a_verdict_takes_at_most_its_share_of_a_job_of_any_length() -> None:
    """Answers of 2 to 4 s: half a second more than the share, where it had been up to 4."""
    draw = random.Random(3)
    for trained in (200.0, 413.0, 654.0, 3600.0):  # seconds; two are those of docs/reports
        allowed = trained * TIME_SHARE / (1 - TIME_SHARE)
        begun, ended = asked(allowed, [draw.uniform(2.0, 4.0) for _ in range(5000)])
        assert begun > LEAST
        assert allowed - 5.0 < ended <= allowed + 0.5
        assert ended / (trained + ended) <= TIME_SHARE + 0.001


def test_a_few_questions_are_asked_whatever_time_they_take_within_bounds() -> None:
    assert asked(1.0, [5.0] * 100) == (LEAST, 15.0)
    begun, _ = asked(0.0, [GRACE_SECONDS + 1] * 100)
    assert begun == AT_ONCE


def test_what_the_first_answers_took_is_forgotten() -> None:
    """The first ones load adapters and tune threads: the later ones say how long one takes."""
    begun, ended = asked(100.0, [20.0] * AT_ONCE + [1.0] * 2000)
    assert begun > 400
    assert 98.0 < ended <= 100.0
