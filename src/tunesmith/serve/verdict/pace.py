"""How many questions an evaluation begins, so that it ends in time."""

import threading
import time
from collections import deque
from collections.abc import Callable

from tunesmith.estimate.verdict_time import GRACE_SECONDS, LEAST

AT_ONCE = 8  # questions, each at two sides


class Pace:
    """Whether there is time for one more question.

    Its answer will take as long as the longest of the last ones. What is begun is finished, so a question is begun so
    early that it ends in time.
    """

    def __init__(self, until: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`until`: when the last answer is wanted, by the clock."""
        self._until, self._clock = until, clock
        self._took: deque[float] = deque(maxlen=2 * AT_ONCE)
        self._lock = threading.Lock()

    def admits(self, number: int) -> bool:
        """Whether question `number` may begin now."""
        with self._lock:
            longest = max(self._took, default=0.0)
        late = self._clock() - self._until
        return late + longest <= 0 or (number < LEAST and late <= GRACE_SECONDS)

    def took(self, seconds: float) -> None:
        """Notes what a question took, from any thread."""
        with self._lock:
            self._took.append(seconds)
