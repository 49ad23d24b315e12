"""What `tunesmith serve` runs: the API with its chat engine, and one worker as a child process.

On SIGINT or SIGTERM the API finishes its requests, then the worker stops its trainer, whose progress is kept.
"""

import errno
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import WrappedLogger

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output.terminal import warn
from tunesmith.settings import Settings
from tunesmith.store import ACTIVE, Store
from tunesmith.system.atomic_write import write_atomically

SHUTDOWN_SECONDS = 5  # how long requests under way may still take


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """`idle_seconds`: stop once no job is active and no request came for so long. None: never."""

    with_worker: bool = True
    idle_seconds: float | None = None
    ready_file: Path | None = None
    announce: bool = True  # in the data directory, so that other commands find this server


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a server can be reached; `server.json` in the data directory."""

    base_url: str
    pid: int

    def write(self, path: Path) -> None:
        value = {"base_url": self.base_url, "pid": self.pid}
        write_atomically(path, json.dumps(value).encode(), durable=False)  # means nothing after a power cut

    @staticmethod
    def read(path: Path) -> "Announcement | None":
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return Announcement(str(value["base_url"]), int(value["pid"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


def announcement_file(settings: Settings) -> Path:
    return settings.paths.root / "server.json"


def bind(host: str, port: int) -> socket.socket:
    """A listening address, taken before anything slow happens; a busy one is said with its cure."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio sets TCP_NODELAY on TCP sockets alone: without it every answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        raise CommandError(_bind_failure(host, port, error)) from error
    return listener


def _bind_failure(host: str, port: int, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"Port {port} on {host} needs more rights (ports below 1024 do). Choose another: --port 8000"
    if isinstance(error, socket.gaierror):
        return (
            f"The host {host!r} is not known here ({error.strerror}). Give an address of this machine: --host 127.0.0.1"
        )
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another program (another Tunesmith?)."
            f" Choose another, --port {port + 1}, or --port 0 for any free one."
        )
    return (
        f"Cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}. Choose another --host or --port."
    )


def set_log_level(name: str) -> None:
    """Log lines go to stderr: short ones in a terminal, whole ones (with request ids) into a file.

    Raises CommandError for an unknown level.
    """
    level = {"debug": 10, "info": 20, "warning": 30, "error": 40}.get(name.lower())
    if level is None:
        raise CommandError(f"{name!r} is not a log level; take debug, info, warning or error.", Exit.USAGE)
    shorten = [_short_request] if sys.stderr.isatty() else []
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.set_exc_info,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if shorten else "%Y-%m-%d %H:%M:%S", utc=False),
            *shorten,
            structlog.dev.ConsoleRenderer(pad_event_to=0, colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _short_request(
    _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """`GET /v1/models 200` and the milliseconds: a line that fits into a terminal."""
    if event.get("event") == "request":
        event["event"] = f"{event.pop('method')} {event.pop('path')} {event.pop('status')}"
        event.pop("request_id", None)
    return event


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/v1"


def run_server(
    settings: Settings, store: Store, listener: socket.socket, options: ServeOptions, on_ready: Callable[[], None]
) -> None:
    """Serves until a signal, or until idle. Returns after an orderly end; the caller closes the store."""
    from tunesmith.api.app import create_app
    from tunesmith.serve.pool import Pool
    from tunesmith.worker import WorkerProcess

    pool = Pool(settings)
    app = _Activity(create_app(settings, store, pool))
    server = _Server(_uvicorn_config(app), lambda: _announce(settings, listener, options, on_ready))
    worker = WorkerProcess(settings) if options.with_worker else None
    _take_signals()
    _spare_collector()
    if options.idle_seconds is not None:
        arguments = (app, store, options.idle_seconds, server)
        threading.Thread(target=_watch_idleness, args=arguments, name="idleness", daemon=True).start()
    if worker is not None:
        worker.start()
    try:
        server.run(sockets=[listener])
    finally:
        _forget(settings)
        if worker is not None:
            worker.stop()
        pool.close()


def _spare_collector() -> None:
    """What is loaded by now stays. Else Python walks through all of it, 40 ms, in the middle of some answer."""
    gc.collect()
    gc.freeze()


def _uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",  # a fifth more short requests a second than h11; uvloop beside it added nothing
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


class _Activity:
    """Passes requests through and remembers when the last one came."""

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


def _watch_idleness(app: _Activity, store: Store, seconds: float, server: uvicorn.Server) -> None:
    while not server.should_exit:
        time.sleep(min(1.0, seconds))
        # `open` counts the application's lifespan too, which lasts as long as the server.
        if app.open <= 1 and time.monotonic() - app.last > seconds and not has_active_job(store):
            server.should_exit = True


def has_active_job(store: Store) -> bool:
    """Whether a worker has, or will have, something to do; a paused job waits for its user instead."""
    return any(job.status in ACTIVE and not job.paused for job in store.jobs.page(limit=100).data)


def _announce(settings: Settings, listener: socket.socket, options: ServeOptions, on_ready: Callable[[], None]) -> None:
    announcement = Announcement(url_of(listener), os.getpid())
    if options.announce:
        announcement.write(announcement_file(settings))
    on_ready()
    if options.ready_file is not None:  # last: who waits for it finds the rest done
        announcement.write(options.ready_file)


def _forget(settings: Settings) -> None:
    mine = Announcement.read(announcement_file(settings))
    if mine is not None and mine.pid == os.getpid():
        announcement_file(settings).unlink(missing_ok=True)


def _take_signals() -> None:
    """uvicorn takes the signals while it serves and sends them again when it has ended; by then we are cleaning up.

    The second signal during clean-up ends the process at once: whoever asks twice means it.
    """
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if number in seen:
            warn("stopped at once; an unfinished job goes on at the next start.")
            os._exit(Exit.INTERRUPTED)
        seen.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):  # not the main thread: a test that runs the server in one
            signal.signal(number, handle)
