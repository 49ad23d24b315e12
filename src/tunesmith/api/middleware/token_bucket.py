"""A token bucket: it refills evenly and holds a minute's worth at most.

Pure arithmetic, no clock.
"""

import math


class TokenBucket:
    """A bucket of `per_minute` tokens (above 0), full at `now`.

    Times are seconds of any clock that does not go back.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is available; at most until the bucket is full."""
        missing = min(amount, self.per_minute) - self._filled(now)
        return max(0.0, missing * 60 / self.per_minute)

    def spend(self, amount: float, now: float) -> None:
        """Takes `amount`; a negative one is given back.

        The level may go below zero, since what a request used is only known afterwards.
        """
        self._level = min(float(self.per_minute), self._filled(now) - amount)
        self._at = now

    def put(self, level: float, now: float) -> None:
        """Sets what it has, as another place has counted it."""
        self._level = min(float(self.per_minute), level)
        self._at = now

    def remaining(self, now: float) -> int:
        """Whole tokens available now."""
        return max(0, math.floor(self._filled(now)))

    def reset(self, now: float) -> float:
        """Seconds until it is full again."""
        return (self.per_minute - self._filled(now)) * 60 / self.per_minute

    def _filled(self, now: float) -> float:
        return min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)


def shown(seconds: float) -> str:
    """A duration as in OpenAI's reset headers: `2ms`, `1s`, `6m0s`.

    Rounded up, so that a client that waits this long is not refused.
    """
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
