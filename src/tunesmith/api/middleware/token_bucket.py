"""A bucket that fills up evenly: so much a minute, at most a minute's worth in store. Pure arithmetic, no clock."""

import math


class TokenBucket:
    """`per_minute` above 0. Starts full at `now`, any clock in seconds that does not go back."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there; more than the whole bucket is taken as the whole of it."""
        missing = min(amount, self.per_minute) - self._filled(now)
        return max(0.0, missing * 60 / self.per_minute)

    def spend(self, amount: float, now: float) -> None:
        """May go below nothing: what was used is only known afterwards. A negative amount is given back."""
        self._level = min(float(self.per_minute), self._filled(now) - amount)
        self._at = now

    def remaining(self, now: float) -> int:
        return max(0, math.floor(self._filled(now)))

    def reset(self, now: float) -> float:
        """Seconds until it is full again."""
        return (self.per_minute - self._filled(now)) * 60 / self.per_minute

    def _filled(self, now: float) -> float:
        return min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)


def shown(seconds: float) -> str:
    """As OpenAI's reset headers: `2ms`, `1s`, `6m0s`; rounded up, so that whoever waits so long is not refused."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
