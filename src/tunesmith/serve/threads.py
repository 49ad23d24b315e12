"""How many threads a token should take: found by trying, and tried again all the time.

On idle cores more threads are faster. While a job trains on the same cores each operation waits for its slowest thread,
and one thread can be several times faster than two; on a machine of many cores the memory is exhausted before they are.
No rule knows all that, but a step's own duration does: now and then a few steps run with half or twice the threads, and
the faster number stays.
"""

from statistics import median

PROBE_AFTER = 2.0  # seconds of steps between two trials
PROBE_STEPS = 3
BETTER = 0.9  # a change must save a tenth, or noise would decide


class ThreadChooser:
    """Feed it the duration of every decode step; run the next one with `threads`."""

    def __init__(self, most: int) -> None:
        self._candidates = _halvings(most)  # most first
        self._chosen = 0
        self._trial: int | None = None
        self._upwards = False
        self._rows = 0
        self._steps: list[float] = []  # durations with the chosen number, since the last trial
        self._tried: list[float] = []

    @property
    def threads(self) -> int:
        return self._candidates[self._chosen if self._trial is None else self._trial]

    def note(self, rows: int, seconds: float) -> None:
        """A step of `rows` choices took `seconds` with `threads`; only steps of equal size are compared."""
        if rows != self._rows:
            self._rows, self._steps, self._tried, self._trial = rows, [], [], None
        if self._trial is None:
            self._steps.append(seconds)
            if self._trial_is_due():
                self._trial = self._next_trial()
            return
        self._tried.append(seconds)
        if len(self._tried) == PROBE_STEPS:
            self._decide()

    def _trial_is_due(self) -> bool:
        return len(self._steps) >= PROBE_STEPS and sum(self._steps) >= PROBE_AFTER

    def _next_trial(self) -> int | None:
        """One place down and one place up, in turn."""
        self._upwards = not self._upwards
        places = [self._chosen + 1, self._chosen - 1] if self._upwards else [self._chosen - 1, self._chosen + 1]
        return next((place for place in places if 0 <= place < len(self._candidates)), None)

    def _decide(self) -> None:
        if self._trial is not None and median(self._tried) < BETTER * median(self._steps[-2 * PROBE_STEPS :]):
            self._chosen = self._trial
        self._trial, self._steps, self._tried = None, [], []


def _halvings(most: int) -> list[int]:
    candidates = [most]
    while candidates[-1] > 1:
        candidates.append(candidates[-1] // 2)
    return candidates
