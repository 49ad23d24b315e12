"""Finds out how many threads a decoding step should use, by trying.

On idle cores more threads are faster. While a job trains on the same cores, each operation waits for its slowest
thread and one thread can be several times faster than two; with many cores, memory bandwidth is exhausted first. No
rule covers all of this, but the duration of a step does: now and then a few steps run with half or twice the threads,
and the faster number stays.
"""

from collections import deque
from statistics import median

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 8.0  # seconds of steps between two trials; doubled after a failed one
PROBE_STEPS = 3
REMEMBERED = 6  # recent durations for each size of step
BETTER = 0.9  # a change must save a tenth of the time, more than noise does
HOPELESS = 1.5  # times the usual duration: a single such step ends the trial


class ThreadTuner:
    """Chooses the threads of every step, by the durations of decoding steps."""

    def __init__(self, most: int) -> None:
        """`most`: threads at most."""
        self._candidates = _halvings(most)  # most first
        self._chosen = 0
        self._trial: int | None = None
        self._upwards = False
        self._usual: dict[int, deque[float]] = {}  # durations with the chosen number, by size of step
        self._ratios: list[float] = []  # of the trial's steps to the usual ones of their size
        self._elapsed, self._pause = 0.0, FIRST_PAUSE

    def threads(self, size: int | None) -> int:
        """Threads for a step of `size`, None for one that prefills.

        A trial needs steps that it can be compared with.
        """
        usual = self._usual.get(size, ()) if size is not None else ()
        return self._candidates[self._chosen if self._trial is None or len(usual) < PROBE_STEPS else self._trial]

    def report(self, size: int, seconds: float) -> None:
        """Reports what a step with `threads(size)` took.

        Only steps of equal `size` are compared.
        """
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
        """The next lower and the next higher number, in turn."""
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
