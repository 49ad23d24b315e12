"""How many threads a token should take: found by trying, and tried again all the time.

On idle cores more threads are faster. While a job trains on the same cores each operation waits for its slowest thread,
and one thread can be several times faster than two; on a machine of many cores the memory is exhausted before they are.
No rule knows all that, but a step's own duration does: now and then a few steps run with half or twice the threads, and
the faster number stays.
"""

from collections import deque
from statistics import median

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 8.0  # seconds of steps between two trials; doubled after one that did not pay
PROBE_STEPS = 3
REMEMBERED = 6  # durations of each size of step
BETTER = 0.9  # a change must save a tenth, or noise would decide
HOPELESS = 1.5  # times the usual duration: one such step ends the trial


class ThreadChooser:
    """Ask it for the `threads` of every step, and tell it what a decode step took."""

    def __init__(self, most: int) -> None:
        self._candidates = _halvings(most)  # most first
        self._chosen = 0
        self._trial: int | None = None
        self._upwards = False
        self._usual: dict[int, deque[float]] = {}  # with the chosen number, by size of step
        self._ratios: list[float] = []  # of the trial's steps to the usual ones of their size
        self._elapsed, self._pause = 0.0, FIRST_PAUSE

    def threads(self, size: int | None) -> int:
        """For a step of `size`, None where a prompt is read: a trial needs steps that it can be compared with."""
        usual = self._usual.get(size, ()) if size is not None else ()
        return self._candidates[self._chosen if self._trial is None or len(usual) < PROBE_STEPS else self._trial]

    def note(self, size: int, seconds: float) -> None:
        """A step took `seconds` with `threads(size)`; only steps of equal `size` are compared."""
        usual = self._usual.setdefault(size, deque(maxlen=REMEMBERED))
        known = len(usual) >= PROBE_STEPS
        if self._trial is None or not known:
            usual.append(seconds)
            self._elapsed += seconds
            if self._trial is None and self._elapsed >= self._pause and len(usual) >= PROBE_STEPS:
                self._trial, self._elapsed = self._next_trial(), 0.0
        else:
            self._ratios.append(seconds / median(usual))
            if len(self._ratios) == PROBE_STEPS or self._ratios[-1] > HOPELESS:
                self._decide(self._trial)

    def _next_trial(self) -> int | None:
        """One place down and one place up, in turn."""
        self._upwards = not self._upwards
        places = [self._chosen + 1, self._chosen - 1] if self._upwards else [self._chosen - 1, self._chosen + 1]
        return next((place for place in places if 0 <= place < len(self._candidates)), None)

    def _decide(self, trial: int) -> None:
        if median(self._ratios) < BETTER:
            self._chosen, self._usual, self._pause = trial, {}, FIRST_PAUSE
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._trial, self._ratios = None, []


def _halvings(most: int) -> list[int]:
    candidates = [most]
    while candidates[-1] > 1:
        candidates.append(candidates[-1] // 2)
    return candidates
