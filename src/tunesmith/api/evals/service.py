"""The runs of evals that this process works on.

They have a thread with an event loop of its own: the loop that answers requests stays free. A run is claimed by a
lease, as a job is by a worker: several servers share one queue, and what a killed server held is claimed again when its
lease has ended.
"""

import asyncio
import os
import secrets
import socket
import threading
from typing import Annotated, cast

import structlog
from fastapi import Depends, Request

from tunesmith.api.evals.runner import Held, Runner
from tunesmith.api.http.context import Context
from tunesmith.errors import TunesmithError
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

log = structlog.get_logger(__name__)

RUNS_AT_ONCE = 4  # of different projects; the engines share their steps out among these
LOOK_SECONDS = 1.0  # how often an idle process looks for runs that another one has queued
STOP_SECONDS = 5.0


class EvalRuns:
    """The thread that works on runs."""

    def __init__(self, store: Store, settings: Settings, pool: Pool) -> None:
        self._store, self._settings, self._pool = store, settings, pool
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"  # two processes may have one number
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look = asyncio.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, which goes on with what an earlier process left."""
        self._thread = threading.Thread(target=self._work, name="eval-runs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Gives the runs under way back; what was answered is kept."""
        self._stopping.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def wake(self) -> None:
        """Has the thread look for a run at once."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._look.set)

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:
            log.exception("the runs of evals have stopped; restart the server")

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set():
            self._look.clear()
            tasks = {task for task in tasks if not task.done()}
            while len(tasks) < RUNS_AT_ONCE and (task := await self._claimed()) is not None:
                tasks.add(task)
            with_pause = asyncio.create_task(self._look.wait())
            await asyncio.wait([with_pause, *tasks], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            with_pause.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _claimed(self) -> asyncio.Task[None] | None:
        try:
            found = await asyncio.to_thread(self._store.run_queue.claim, self._name, self._settings.lease_seconds)
        except TunesmithError as error:  # a database that does not answer now may answer next time
            log.warning("no run of an eval could be claimed", reason=error.message)
            return None
        if found is None:
            return None
        run, lease = found
        context = Context(self._settings, self._store.of(run.project), self._pool, run.project)
        return asyncio.create_task(self._run(Held(context, self._store.run_queue, run, lease)))

    async def _run(self, held: Held) -> None:
        try:
            await Runner(held).work()
        except Exception:  # a fault of ours: the next attempt may get past it, and there are not many
            log.exception("a run of an eval broke off", run=held.run.id)
            await asyncio.to_thread(held.queue.release, held.lease, stalled=True)
        finally:
            self._look.set()


async def get_eval_runs(request: Request) -> EvalRuns:
    """The runs of this application."""
    return cast(EvalRuns, request.app.state.eval_runs)


EvalRunsDep = Annotated[EvalRuns, Depends(get_eval_runs)]
