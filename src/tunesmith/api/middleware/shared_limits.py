"""A server's side of limits that several servers share.

Whether a request may begin is asked before it does; what it turned out to need is told behind its answer. Only the
event loop touches the state here; the database is reached by threads.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Coroutine, Sequence

import structlog
from starlette.concurrency import run_in_threadpool

from tunesmith.errors import TunesmithError
from tunesmith.store.servers.limits import RUNNING_SECONDS, Admission, Charge, SharedLimits

log = structlog.get_logger(__name__)

RENEW_SECONDS = RUNNING_SECONDS / 3


class SharedCounter:
    """Counts one server's requests in the database."""

    def __init__(self, limits: SharedLimits) -> None:
        self._limits = limits
        self._server = secrets.token_hex(8)
        self._running: Counter[str] = Counter()  # answers under way here, by project
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = 0
        self._renewing: asyncio.Task[None] | None = None

    async def admit(self, project: str, charges: Sequence[Charge], most: int) -> Admission:
        """Take the charges, and a place among at most `most` answers; or nothing.

        Raises ServiceUnavailable.
        """
        self._asking += 1
        try:
            limits, server = self._limits, self._server
            found = await run_in_threadpool(limits.admit, project, charges, server=server, most=most)
        finally:
            self._asking -= 1
        if most and found.admitted:
            self._count(project, 1)
        return found

    def settle(self, project: str, charges: Sequence[Charge], places: int) -> None:
        """Tell what a request needs beyond what was taken.

        `places`: answers that have begun, or with a minus ended.
        """
        self._count(project, places)
        if charges or places:
            self._start(run_in_threadpool(self._limits.settle, project, charges, server=self._server, places=places))

    def _count(self, project: str, places: int) -> None:
        self._running[project] += places
        if self._running[project] > 0 and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        if not self._running[project]:
            del self._running[project]

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(_told(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self) -> None:
        """Says again what is under way, for as long as anything is."""
        while self._running:
            await asyncio.sleep(RENEW_SECONDS)
            in_flux = self._asking or self._tasks  # what is told in a moment is not in the database yet
            running = {project: None if in_flux else number for project, number in self._running.items()}
            if running:
                await _told(run_in_threadpool(self._limits.renew, self._server, running))
        self._renewing = None


async def _told(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except TunesmithError as error:  # a place is free again when nobody renews it; a bucket fills up
        log.warning("what a request used was not counted", reason=error.message)
