"""Works on one run, its rows side by side.

As many are under way as keep the engine's batch full.

Ends when all rows are done, when the run cannot go on, or when the lease is lost: cancelled, deleted, or taken.
"""

import asyncio
from dataclasses import dataclass

import structlog

from tunesmith.api.evals.asking import Asker
from tunesmith.api.evals.plans import read_asking
from tunesmith.api.evals.rows import Row
from tunesmith.api.evals.saving import Saver
from tunesmith.api.http.context import Context
from tunesmith.errors import ServiceUnavailable, TunesmithError
from tunesmith.evals.runs.criteria import Criterion, read_criteria
from tunesmith.evals.runs.samples import Asking
from tunesmith.graders.python_code import InJail, PythonGrader, jail_limits
from tunesmith.graders.runner import Helpers
from tunesmith.serve.embeddings.cosine import cosine_of
from tunesmith.store import LeaseLost
from tunesmith.store.evals.leases import RunQueue
from tunesmith.store.evals.rows import ItemRow, RunLease, RunRow

log = structlog.get_logger(__name__)

CHECK_SECONDS = 0.5  # how soon a cancelled run stops
RENEWALS_PER_LEASE = 6
MOST_STALLED = 5  # attempts without one answer saved: a row may end the whole process
PAGE = 64  # rows read at a time
BATCHES = 2  # answers of one length end in the same step: a whole batch has to wait, or the next steps are narrow


@dataclass(frozen=True, slots=True)
class Held:
    """A run, and the right to work on it."""

    context: Context
    queue: RunQueue
    run: RunRow
    lease: RunLease


class Runner:
    """One run in this process."""

    def __init__(self, held: Held) -> None:
        self._held = held
        settings = held.context.settings
        self._saver = Saver(held.queue, held.lease, settings.chat_running)
        self._asker = Asker(held.context)
        self._room = asyncio.Semaphore(BATCHES * settings.chat_running)
        jail = InJail(jail_limits(settings), held.run.project)
        self._helpers = Helpers(self._asker.judge, jail, cosine_of(settings))

    async def work(self) -> None:
        """Returns when nothing is left to do here.

        A task that is cancelled gives the run back.
        """
        held = self._held
        try:
            await self._all()
            await asyncio.to_thread(held.queue.finish, held.lease)
        except LeaseLost as lost:
            log.info("a run of an eval is left", run=held.run.id, reason=lost.code)
        except TunesmithError as fault:
            await self._fail(fault.code or fault.type, fault.message)
        except asyncio.CancelledError:
            held.queue.release(held.lease)
            raise

    async def _all(self) -> None:
        if self._held.run.stalled > MOST_STALLED:
            message = f"The server ended {MOST_STALLED} times in this run without one answer. Its log says why."
            raise TunesmithError(message, code="server_ended")
        row = await asyncio.to_thread(self._held.context.store.evals.get, self._held.run.eval_id)
        criteria = read_criteria(row.testing_criteria)
        asking = read_asking(self._held.run.data_source, self._held.context.settings)
        if asking.model:  # a model that is gone, or cannot be loaded, ends the run and not each row
            await self._asker.open(asking.model)
        beside = [asyncio.create_task(self._saver.work()), asyncio.create_task(self._keep_lease())]
        rows = asyncio.create_task(self._rows(asking, criteria))
        try:
            done, _ = await asyncio.wait([rows, *beside], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (rows, *beside):
                task.cancel()
            await asyncio.gather(rows, *beside, return_exceptions=True)

    async def _rows(self, asking: Asking, criteria: tuple[Criterion, ...]) -> None:
        seen = 0
        async with asyncio.TaskGroup() as group:
            while page := await asyncio.to_thread(self._held.queue.waiting, self._held.lease, seen, PAGE):
                for item in page:
                    await self._room.acquire()
                    group.create_task(self._row(item, asking, criteria))
                seen = page[-1].seq

    async def _row(self, item: ItemRow, asking: Asking, criteria: tuple[Criterion, ...]) -> None:
        row = Row(item, asking, self._saver)
        try:
            if await row.answer(self._asker):
                await self._judged(row, criteria)
            await row.end(len(criteria))
        except TunesmithError:
            raise
        except Exception:  # a fault of ours costs this row, not the run
            log.exception("a row of a run broke off", run=self._held.run.id, row=item.number)
            row.break_off("server_error", f"The server failed at this row; its log says why ({self._held.run.id}).")
            await row.end(len(criteria))
        finally:
            self._room.release()

    async def _judged(self, row: Row, criteria: tuple[Criterion, ...]) -> None:
        """All results; what a model or code said is kept before the next is asked."""
        for criterion in criteria[row.judged :]:
            if _is_costly(criterion):
                await row.keep()
            await row.judge(criterion, self._helpers)

    async def _keep_lease(self) -> None:
        held, seconds = self._held, self._held.context.settings.lease_seconds
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(min(CHECK_SECONDS, seconds / RENEWALS_PER_LEASE))
            try:
                if loop.time() - renewed >= seconds / RENEWALS_PER_LEASE:
                    await asyncio.to_thread(held.queue.renew, held.lease, seconds)
                    renewed = loop.time()
                else:
                    await asyncio.to_thread(held.queue.check_held, held.lease)
            except ServiceUnavailable as error:  # wait for the database, but not longer than the lease lasts
                if loop.time() - renewed > seconds:
                    raise LeaseLost(
                        "The database has not answered for the time of the lease.", code="expired"
                    ) from error

    async def _fail(self, code: str, message: str) -> None:
        log.warning("a run of an eval failed", run=self._held.run.id, reason=message)
        try:
            await asyncio.to_thread(self._held.queue.fail, self._held.lease, code, message)
        except LeaseLost:
            return


def _is_costly(criterion: Criterion) -> bool:
    return criterion.asks_a_model or isinstance(criterion.grader, PythonGrader)
