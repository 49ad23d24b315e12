"""Runs a server: API, dashboard, chat engine, and one worker as a child process.

On SIGINT or SIGTERM the API answers on for the setting `drain_seconds`, as a server that is not ready any more; then it
finishes its requests, and the worker stops its trainer, whose progress is kept.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output.terminal import plural, warn
from tunesmith.cli.server.announcement import Announcement
from tunesmith.cli.server.announcer import Announcer
from tunesmith.cli.server.collector import Collector
from tunesmith.cli.server.connections import ACCEPTED_AT_ONCE, BoundedProtocol, most_connections
from tunesmith.cli.server.draining import Draining, accept_waiting
from tunesmith.cli.server.listener import WAITING_CONNECTIONS, url_of
from tunesmith.cli.server.proving import Proving
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.system.log import configure_log
from tunesmith.system.processes import end_on_hangup

if TYPE_CHECKING:
    from tunesmith.serve.pool import Pool
    from tunesmith.web.site import Site
    from tunesmith.worker.process import WorkerProcess

SHUTDOWN_SECONDS = 5  # how long running requests may still take
PAGES = "tunesmith.web.pages_app"  # the module that imports all of them
PAGES_SECONDS = 3.0  # after the server is ready, when its first answer is likely given
IDLE_SECONDS = 75  # longer than proxies keep a connection (60), which would else send a request into one that closes
TICK_SECONDS = 0.1
STREAM_SECONDS = 3.0  # and answers that are being streamed, which then end with an error event


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a server runs.

    `idle_seconds`: stop once no job has been active and no request has come for this long; None: never.
    """

    with_worker: bool = True
    idle_seconds: float | None = None
    ready_file: Path | None = None
    announce: bool = True  # in the data directory, where other commands look for a server


def set_log_level(name: str) -> None:
    """Sends the log of this process to stderr.

    Raises CommandError for an unknown level.
    """
    level = {"debug": 10, "info": 20, "warning": 30, "error": 40}.get(name.lower())
    if level is None:
        raise CommandError(f"{name!r} is not a log level; use debug, info, warning or error.", Exit.USAGE)
    configure_log(level)


def run_server(
    settings: Settings, store: Store, listener: socket.socket, options: ServeOptions, on_ready: Callable[[], None]
) -> None:
    """Serves until a signal comes, or until idle. The caller closes the store."""
    from tunesmith.serve.preload import pool_of_server, preloading
    from tunesmith.web.site import create_site
    from tunesmith.worker.process import WorkerProcess

    pool = pool_of_server(settings)
    preload = preloading(settings, pool, lasting=options.idle_seconds is None)
    app = _Activity(site := create_site(settings, store, pool))
    announcer = Announcer(settings, announcement := Announcement.of_this_process(url_of(listener)))
    draining = Draining(app, settings.drain_seconds)
    worker = WorkerProcess(settings) if options.with_worker else None

    def ready() -> None:
        _announce(announcer, options, on_ready)
        _start_the_rest(site, worker, preload)
        if options.ready_file is not None:  # last: when it exists, everything else is done
            replace(announcement, secret="").write(options.ready_file)

    server = _Server(_uvicorn_config(Proving(draining, announcement)), draining, ready)
    if options.idle_seconds is not None:
        _start_watching(app, store, options.idle_seconds, server)
    try:
        _run(server, listener)
    finally:
        announcer.withdraw()
        _stop(worker, pool)


def _run(server: "_Server", listener: socket.socket) -> None:
    _take_signals()
    collector = Collector.started()
    try:
        server.run(sockets=[listener])
    finally:
        collector.stop()


def _stop(worker: "WorkerProcess | None", pool: "Pool") -> None:
    if worker is not None:
        worker.stop()
    pool.close()


def _start_the_rest(site: "Site", worker: "WorkerProcess | None", preload: threading.Thread | None) -> None:
    """Starts what would take the processor from a server that is not ready yet."""
    if worker is not None:
        site.api.state.worker_fault = worker.why_absent
        worker.start()
    pages = threading.Timer(PAGES_SECONDS, site.prepare)  # sooner, if one is asked for
    pages.daemon = True
    pages.start()
    if preload is not None:
        preload.start()


def _uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    BoundedProtocol.most = most_connections()
    return uvicorn.Config(
        app,
        http=BoundedProtocol,  # httptools: a fifth more short requests a second than h11; uvloop gained nothing
        backlog=ACCEPTED_AT_ONCE,
        log_config=None,
        access_log=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, draining: Draining, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._draining = draining
        self._on_ready = on_ready
        self._signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        if not (self._draining.begun and self._signals == 2):  # that one ends the draining, and nothing else
            super().handle_exit(sig, frame)

    async def main_loop(self) -> None:
        await super().main_loop()
        if not self._signals:  # it was idle: nobody asks it
            return
        self._draining.begin()
        if self._draining.seconds:
            warn(f"draining for {self._draining.seconds:g} s; a second signal ends that.")
        end, ticks = time.monotonic() + self._draining.seconds, 0
        while time.monotonic() < end and self._signals < 2:
            ticks += 1
            await self.on_tick(ticks)
            await asyncio.sleep(TICK_SECONDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(WAITING_CONNECTIONS)  # the backlog of uvicorn's setting is how many are accepted at once
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if PAGES in sys.modules:
            from tunesmith.web.live.stream import end_viewers

            end_viewers()  # at once: their pages come back to the next server by themselves
        await accept_waiting(sockets or ())
        ending = asyncio.create_task(_end_streams())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()


async def _end_streams() -> None:
    from tunesmith.api.http.sse import cut_streams, open_streams

    if open_streams():
        warn(f"stopping: {plural(open_streams(), 'answer')} still streaming, with {STREAM_SECONDS:g} s to end.")
    await asyncio.sleep(STREAM_SECONDS)
    cut_streams()


class _Activity:
    """Passes requests through; knows how many are open and when the last one ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.open = 0
        self.last = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.open -= 1
            self.last = time.monotonic()


def _start_watching(app: _Activity, store: Store, seconds: float, server: uvicorn.Server) -> None:
    arguments = (app, store, seconds, server)
    threading.Thread(target=_watch_idleness, args=arguments, name="idleness", daemon=True).start()


def _watch_idleness(app: _Activity, store: Store, seconds: float, server: uvicorn.Server) -> None:
    while not server.should_exit:
        time.sleep(min(1.0, seconds))
        # `open` includes the application's lifespan, which lasts as long as the server.
        if app.open <= 1 and time.monotonic() - app.last > seconds and not store.jobs.any_to_do():
            server.should_exit = True


def _announce(announcer: Announcer, options: ServeOptions, on_ready: Callable[[], None]) -> None:
    if options.announce:
        announcer.announce()
    on_ready()


def _take_signals() -> None:
    """Handles signals during clean-up: the second one ends the process at once.

    While it serves, uvicorn handles them itself; it sends them again when it has ended.
    """
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if number in seen:
            warn("stopped at once; an unfinished job goes on at the next start.")
            os._exit(Exit.INTERRUPTED)
        seen.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):  # not the main thread: a test runs the server in another
            signal.signal(number, handle)
    with suppress(ValueError):
        end_on_hangup()
