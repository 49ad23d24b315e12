"""Stop strings in a text that arrives in pieces.

What might be the start of one is held back until it is known.
"""

from collections.abc import Sequence


class StopFilter:
    """Passes text on up to the first stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._held)

    def add(self, text: str) -> str:
        """What may be shown now.

        After a stop string, which is never shown, `stopped` is true and nothing more comes.
        """
        if self.stopped:
            return ""
        self._held += text
        found = [index for stop in self._stops if (index := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        return self._show(len(self._held) - self._possible_start())

    def flush(self) -> str:
        """The rest, when no more text will come."""
        return self._show(len(self._held))

    def _show(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        return shown

    def _possible_start(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
