"""Keeps the garbage collector from stopping every answer.

A walk through torch and a base model's vocabulary takes a third of a second, in which the server answers nobody. What
has survived one is long-lived, so the next ones leave it out.

Not covered: garbage in cycles that was alive in a walk is found by the next whole one, an hour later at most.
"""

import gc
import time
from collections.abc import Callable

WHOLE_SECONDS = 3600.0  # from one walk through everything to the next


class Collector:
    """Exempts from collection what survived a full one.

    Once an hour nothing is exempt.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._whole_at = clock()

    @classmethod
    def started(cls, clock: Callable[[], float] = time.monotonic) -> "Collector":
        """One that exempts what is loaded by now."""
        collector = cls(clock)
        gc.collect()
        gc.freeze()
        gc.enable()  # `serve` imports without it
        gc.callbacks.append(collector._note)
        return collector

    def stop(self) -> None:
        """Leaves the collector as Python has it."""
        gc.callbacks.remove(self._note)
        gc.unfreeze()

    def _note(self, phase: str, about: dict[str, int]) -> None:
        if about["generation"] < 2:
            return
        now = self._clock()
        if phase == "stop":
            gc.freeze()
        elif now - self._whole_at >= WHOLE_SECONDS:
            self._whole_at = now
            gc.unfreeze()
