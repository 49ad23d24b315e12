"""Python graders, run in the jail: each in a process that ran nothing before.

`open_jail(limits)` is the one jail of this process with those limits; its processes start with the first call.
"""

import atexit
import json
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.graders.jail.frames import MAX_REQUEST, Answer
from tunesmith.graders.jail.places import Places, Ticket
from tunesmith.graders.jail.process import CallDied, CallLeft, CallTimedOut, JailFault, Zygote
from tunesmith.graders.jail.support import kernel_lacks, own_test, sentence, verdict
from tunesmith.system.cpu import cpu_count
from tunesmith.system.memory import total_memory

MOST_PLACES = 4
WAITING = 64  # calls of one project
SPARE = 2  # processes more than places: they are ready while those of the last calls are renewed
LACKS_SECONDS = 60.0  # after which a kernel that could not jail is asked again
TEST_SECONDS = 30.0
READ_SECONDS = 10.0  # of a source, without running it
IDLE_SECONDS = 600.0  # after which processes that wait end; the next call starts them again, in half a second


@dataclass(frozen=True, slots=True)
class JailLimits:
    """What one call may take: seconds by the clock, and memory."""

    seconds: float = 120.0
    memory_mib: int = 2048


class Jail:
    """The jail of one process of ours. Any thread may call."""

    def __init__(self, limits: JailLimits, idle_seconds: float = IDLE_SECONDS) -> None:
        self._limits = limits
        memory = max(1, total_memory() // 2 // (limits.memory_mib << 20))
        self.places = max(1, min(MOST_PLACES, cpu_count(), memory))
        self._held = Places(self.places, WAITING)
        self._reading = Places(1, WAITING)
        self._idle: deque[Zygote] = deque()
        self._all: set[Zygote] = set()
        self._most = self.places + SPARE
        self._stopped = False
        self._used = 0.0  # when a call last ended
        self._idle_seconds = idle_seconds
        self._ending: threading.Timer | None = None
        self._count = 0  # of zygotes, those that are being started included
        self._changed = threading.Condition()
        self._testing = threading.Lock()
        self._lacks: tuple[float, str | None] | None = None

    def missing(self) -> str | None:
        """Why python graders cannot run here, as a sentence; None where they can.

        The first call builds the jail and lets a grader try to leave it.
        """
        with self._testing:
            if self._lacks is None or (self._lacks[1] and time.monotonic() - self._lacks[0] > LACKS_SECONDS):
                self._lacks = (time.monotonic(), kernel_lacks() or self._tested())
            return self._lacks[1]

    def ask(self, request: bytes, owner: str, ticket: Ticket, seconds: float | None = None) -> Answer:
        """The answer of one call, which waits for a place.

        `seconds`: its time, else that of the limits. Where it has none: CallTimedOut, CallDied; CallLeft after
        `ticket.leave`, ServiceUnavailable where too many of this owner wait, JailFault for a fault of ours.
        """
        if len(request) > MAX_REQUEST:
            raise InvalidRequest(f"A python grader gets at most {MAX_REQUEST:,} bytes of sample and item.")
        with self._held.held(owner, ticket) as staying:
            if not staying:
                raise CallLeft("The client has gone.")
            return self._ask(request, self._limits.seconds if seconds is None else seconds, ticket)

    def read(self, source: str, owner: str, ticket: Ticket) -> Answer:
        """What is wrong with a source, if anything; runs nothing of it.

        It has a place of its own, so as not to wait for graders that run. Raises as `ask` does.
        """
        with self._reading.held(owner, ticket) as staying:
            if not staying:
                raise CallLeft("The client has gone.")
            return self._ask(json.dumps({"source": source}).encode(), READ_SECONDS, ticket)

    def stop(self) -> None:
        """Ends all processes; those under way die with them."""
        with self._changed:
            if self._ending is not None:
                self._ending.cancel()
            everyone = list(self._all)
            self._idle.clear()
            self._all.clear()
            self._count, self._stopped = 0, True
        for zygote in everyone:
            zygote.end()

    def _ask(self, request: bytes, seconds: float, ticket: Ticket) -> Answer:
        zygote = self._ready(ticket)
        died: CallDied | None = None
        try:
            answer = zygote.ask(request, seconds, ticket.gone)
        except CallDied as error:
            died = error
        except (CallTimedOut, CallLeft):
            self._renew_beside(zygote)
            raise
        except BaseException:
            self._discard(zygote)
            raise
        if died is not None:
            how = self._renew(zygote)
            raise CallDied(str(died) or _ending(how))
        self._renew_beside(zygote)
        return answer

    def _ready(self, ticket: Ticket) -> Zygote:
        """A process whose walls stand. Others, which have died since, are replaced."""
        for attempt in range(self._most + 1):
            zygote = self._take()
            try:
                zygote.await_ready(ticket.gone)
                return zygote
            except BaseException as error:
                self._discard(zygote)
                if attempt == self._most or not isinstance(error, JailFault):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _take(self) -> Zygote:
        """A process that stands ready: an idle one, a new one, or that of a call which has just ended."""
        with self._changed:
            while not self._idle and self._count >= self._most:
                self._changed.wait()
            zygote = self._idle.popleft() if self._idle else None
            self._count += zygote is None
            short = not self._idle and self._count < self._most
            self._count += short
        if short:
            threading.Thread(target=self._add_spare, name="jail-spare", daemon=True).start()
        return zygote or self._new()

    def _new(self) -> Zygote:
        """One more, which has been counted already."""
        seconds = 2 * int(self._limits.seconds + 1)  # two processors' worth
        try:
            zygote = Zygote(self._limits.memory_mib << 20, seconds)
        except BaseException:
            self._forget(None)
            raise
        with self._changed:
            self._all.add(zygote)
            stopped = self._stopped
        if stopped:
            self._discard(zygote)
            raise JailFault("the server is stopping")
        return zygote

    def _add_spare(self) -> None:
        with suppress(ServerFault):
            self._put_back(self._new())

    def _renew_beside(self, zygote: Zygote) -> None:
        """The answer need not wait for the next process to be forked."""
        threading.Thread(target=self._renew, args=(zygote,), name="jail-renew", daemon=True).start()

    def _renew(self, zygote: Zygote) -> str:
        try:
            how = zygote.renew()
        except (ServerFault, OSError):
            self._discard(zygote)
            return "the end of the jail"
        self._put_back(zygote)
        return how

    def _put_back(self, zygote: Zygote) -> None:
        with self._changed:
            if zygote in self._all:
                self._idle.append(zygote)
                self._changed.notify()
                self._used = time.monotonic()
        self._end_later()

    def _end_later(self) -> None:
        """Gives the memory of idle processes back once no call has come for a while."""
        with self._changed:
            rest = self._used + self._idle_seconds - time.monotonic()
            over = [] if rest > 0 else list(self._idle)
            if over:
                self._idle.clear()
            elif self._ending is None and self._idle:
                self._ending = threading.Timer(rest, self._look_again)
                self._ending.daemon = True
                self._ending.start()
        for zygote in over:
            self._discard(zygote)

    def _look_again(self) -> None:
        with self._changed:
            self._ending = None
        self._end_later()

    def _discard(self, zygote: Zygote) -> None:
        self._forget(zygote)
        zygote.end()

    def _forget(self, zygote: Zygote | None) -> None:
        with self._changed:
            self._count -= 1
            if zygote is not None:
                self._all.discard(zygote)
            self._changed.notify()

    def _tested(self) -> str | None:
        ticket = Ticket()
        try:
            answer = self.ask(own_test(), "", ticket, TEST_SECONDS)
        except JailFault as error:
            return sentence(str(error))
        except ServerFault as error:
            return f"the jail's own test failed: {error}"
        finally:
            ticket.close()
        return verdict(answer)


@cache
def open_jail(limits: JailLimits) -> Jail:
    """The jail of this process with those limits."""
    jail = Jail(limits)
    atexit.register(jail.stop)
    return jail


def _ending(how: str) -> str:
    if how == "SIGKILL":
        return "the system ended it, for the memory or the processor time that it took"
    return f"it ended with {how} before it returned a score"
