"""The vLLM servers of one base: which takes a request, and which is left out.

The one with the fewest of our requests under way takes the next. One that cannot be reached, breaks off or answers for
something else is left out, and asked from time to time whether it is well again. One that fails may have been asked
what it cannot bear: it only comes after the others for a while, unless it says itself that it is not well. Belongs to
one event loop; `all_out` may be called on any thread.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager

import structlog

from tunesmith.errors import ServiceUnavailable, TunesmithError
from tunesmith.serve.vllm.adapters import RemoteAdapters
from tunesmith.serve.vllm.faults import BrokeOff, Failed, Misplaced, Unreachable
from tunesmith.serve.vllm.server import RemoteServer
from tunesmith.serve.vllm.wire import Card

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0  # seconds for which a server is left out, doubled each time
SHAKY_SECONDS = 5.0
LEFT_OUT_FOR = (Unreachable, BrokeOff, Misplaced)

log = structlog.get_logger(__name__)


class Replica:
    """One of the servers."""

    def __init__(self, server: RemoteServer, adapters: RemoteAdapters) -> None:
        self.server = server
        self.adapters = adapters
        self.in_flight = 0
        self.out_until: float | None = None  # by the monotonic clock; None: it is well
        self.failures = 0  # in a row
        self.shaky_until = 0.0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Counts a request inside the `with`."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def answered(self) -> None:
        """Records that it does its work."""
        self.failures, self.shaky_until = 0, 0.0

    @property
    def pause(self) -> float:
        """For how long it is left out at its present number of failures, seconds."""
        return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures - 1, 10)))


class Replicas:
    """All servers of a base, in the order of the setting."""

    def __init__(self, base: str, replicas: Sequence[Replica], joined: Callable[[Card], None]) -> None:
        """`joined` is told what a server says of the base when it comes back."""
        self._base = base
        self._replicas = tuple(replicas)
        self._joined = joined
        self._probes: set[asyncio.Task[None]] = set()

    def best(self, tried: Collection[Replica] = ()) -> Replica | None:
        """The server for the next request, none of those `tried`.

        None if there is no other.
        """
        now = time.monotonic()
        able = [one for one in self._replicas if one.out_until is None and one not in tried]
        return min(able, key=lambda one: (one.shaky_until > now, one.in_flight), default=None)

    def all_out(self) -> ServiceUnavailable | None:
        """The error to answer with while every server is left out."""
        until = [one.out_until for one in self._replicas]
        times = [one for one in until if one is not None]
        if len(times) < len(until):
            return None
        seconds = max(1, math.ceil(min(times) - time.monotonic()))
        servers = "The vLLM server" if len(until) == 1 else f"None of the {len(until)} vLLM servers"
        return ServiceUnavailable(
            f"{servers} that {'answers' if len(until) == 1 else 'answer'} for {self._base}"
            f" {'cannot' if len(until) == 1 else 'can'} be reached. Ask again in {seconds} s.",
            code="remote_unreachable",
            retry_after=seconds,
        )

    def failed(self, replica: Replica, error: TunesmithError) -> None:
        """Draws the conclusion from a failed request."""
        if isinstance(error, Failed):
            replica.shaky_until = time.monotonic() + SHAKY_SECONDS
            self._start(self._examine(replica))
        if isinstance(error, LEFT_OUT_FOR):
            self.leave_out(replica, error)

    def leave_out(self, replica: Replica, error: TunesmithError) -> None:
        """Gives the server no requests until it is well again."""
        if replica.out_until is not None:
            return  # other requests to it failed too
        self._pause(replica, error)
        self._start(self._probe(replica))

    async def stop_asking(self) -> None:
        """Ends the probes of servers that are left out."""
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)

    async def close(self) -> None:
        """Closes all connections."""
        for replica in self._replicas:
            await replica.server.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)

    async def _examine(self, replica: Replica) -> None:
        """Leaves it out at once if its engine is dead; vLLM ends by itself some time later."""
        try:
            await replica.server.check_health()
        except TunesmithError as error:
            self.leave_out(replica, error)

    def _pause(self, replica: Replica, error: TunesmithError) -> None:
        replica.failures += 1
        replica.out_until = time.monotonic() + replica.pause
        log.warning("vllm server left out", base=self._base, seconds=replica.pause, reason=str(error))

    async def _probe(self, replica: Replica) -> None:
        """Asks until it is well."""
        while True:
            await asyncio.sleep(replica.pause)
            try:
                await replica.server.check_health()
                cards = await replica.server.models()
            except TunesmithError as error:
                self._pause(replica, error)
            else:
                break
        replica.adapters.found(card.id for card in cards)
        self._joined(cards[0])
        replica.out_until = None
        log.info("vllm server is back", base=self._base, url=replica.server.url)
