"""Commits what rows were answered as it comes.

Those that come together share a transaction: a transaction costs the engine's thread as much as several rows in it.
"""

import asyncio
from contextlib import suppress

from tunesmith.errors import ServiceUnavailable
from tunesmith.store.evals.leases import RunQueue
from tunesmith.store.evals.rows import RunLease, Saved

PAUSE = 0.5  # seconds, where the database does not answer
GATHER = 0.05  # seconds that a row waits for others to share its transaction


class Saver:
    """The writer of one run; rows wait until theirs is on disk."""

    def __init__(self, queue: RunQueue, lease: RunLease, enough: int) -> None:
        """`enough`: so many rows wait for no others."""
        self._queue = queue
        self._lease = lease
        self._enough = enough
        self._waiting: list[tuple[Saved, asyncio.Future[None]]] = []
        self._some = asyncio.Event()
        self._many = asyncio.Event()

    async def save(self, saved: Saved) -> None:
        """Returns when it is committed. Raises LeaseLost."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((saved, done))
        self._some.set()
        if len(self._waiting) >= self._enough:
            self._many.set()
        await done

    async def work(self) -> None:
        """Writes until it is cancelled. Raises LeaseLost, which ends the run here."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._many.wait(), GATHER)
            self._some.clear()
            self._many.clear()
            batch, self._waiting = self._waiting, []
            await self._write([saved for saved, _ in batch])
            for _, done in batch:
                if not done.cancelled():
                    done.set_result(None)

    async def _write(self, batch: list[Saved]) -> None:
        while batch:
            try:
                return await asyncio.to_thread(self._queue.save, self._lease, batch)
            except ServiceUnavailable:  # the lease tells how long this may go on
                await asyncio.sleep(PAUSE)
