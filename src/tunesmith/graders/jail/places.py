"""The places of calls that run at once, and the lines of those that wait.

Owners take turns, however many calls one of them has waiting.
"""

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

from tunesmith.errors import ServiceUnavailable


class Ticket:
    """One call that waits or runs. `leave` and `close` may be called by any thread."""

    def __init__(self) -> None:
        self.turn = threading.Event()
        self.left = False
        self.gone = os.eventfd(0, os.EFD_CLOEXEC)  # readable from `leave` on
        self._lock = threading.Lock()

    def leave(self) -> None:
        """Says that nobody waits for this call any more."""
        with self._lock:
            self.left = True
            self.turn.set()
            if self.gone >= 0:
                os.eventfd_write(self.gone, 1)

    def close(self) -> None:
        """Gives the descriptor back, once the call has ended."""
        with self._lock:
            os.close(self.gone)
            self.gone = -1


class Places:
    """`count` calls run at once; of each owner at most `waiting` wait.

    Any thread may call.
    """

    def __init__(self, count: int, waiting: int) -> None:
        self._free = count
        self._waiting = waiting
        self._lines: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def held(self, owner: str, ticket: Ticket) -> Iterator[bool]:
        """Waits for a place and holds it; False where the caller left meanwhile.

        Raises ServiceUnavailable where too many of this owner wait.
        """
        if self._take(owner, ticket):
            try:
                yield not ticket.left
            finally:
                self._give()
        else:
            yield False

    def waiting(self) -> int:
        """How many calls wait."""
        with self._lock:
            return sum(map(len, self._lines.values()))

    def _take(self, owner: str, ticket: Ticket) -> bool:
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            line = self._lines.setdefault(owner, deque())
            if len(line) >= self._waiting:
                raise ServiceUnavailable(
                    f"{self._waiting} python graders of this project are waiting already; send this one again later."
                )
            line.append(ticket)
        ticket.turn.wait()
        with self._lock:
            return not self._removed(owner, ticket)

    def _removed(self, owner: str, ticket: Ticket) -> bool:
        """Takes a ticket whose turn has not come out of its line."""
        line = self._lines.get(owner)
        if line is None or ticket not in line:
            return False
        line.remove(ticket)
        if not line:
            del self._lines[owner]
        return True

    def _give(self) -> None:
        with self._lock:
            if not self._lines:
                self._free += 1
                return
            owner, line = self._lines.popitem(last=False)
            line.popleft().turn.set()
            if line:
                self._lines[owner] = line  # behind the others
