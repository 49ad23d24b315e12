"""Has the application answer within a command's own process.

That is for commands that need no server, where none runs. What it does not cover: models are not loaded ahead,
uploads are not checked, and nothing trains; commands that need that start a server.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import httpx
from starlette.types import ASGIApp, Message, Scope

from tunesmith.api.app import create_app
from tunesmith.cli.data_dir import secure_data_dir
from tunesmith.cli.local_store import open_with_first_key
from tunesmith.cli.server.find import read_key
from tunesmith.client import Client
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.system.log import send_events_to_stderr

ADDRESS = "http://in-this-process/v1"
WHERE = "command line"  # where calls come from, as the audit log has it of other commands


@contextmanager
def own_application(settings: Settings) -> Iterator[Client]:
    """A client of the application over the data directory, until the block ends.

    Raises CommandError without an API key.
    """
    send_events_to_stderr(logging.WARNING)
    secure_data_dir(settings)
    store, _ = open_with_first_key(settings)
    try:
        key, app = read_key(settings), create_app(settings, store, Pool(settings))
        try:
            with closing(Client(ADDRESS, key, Transport(app))) as client:
                yield client
        finally:
            app.state.usage.stop()  # writes when the key was used
    finally:
        store.close()


class Transport(httpx.BaseTransport):
    """Sends requests to an application; the bytes of an answer come as it makes them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._runner = asyncio.Runner()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, once its headers are there."""
        exchange = _Exchange(self._app, request, self._runner)
        start = exchange.next()
        return httpx.Response(start["status"], headers=start.get("headers", []), stream=_Body(exchange))

    def close(self) -> None:
        """Ends the loop that the application ran on; more than once does no harm."""
        self._runner.close()


class _Exchange:
    """One request and its answer; the application runs while the next message is waited for."""

    def __init__(self, app: ASGIApp, request: httpx.Request, runner: asyncio.Runner) -> None:
        self._run = runner.get_loop().run_until_complete
        self._messages: asyncio.Queue[Message] = asyncio.Queue(1)  # a reader that is slow holds the application up
        self._body: bytes | None = request.read()
        self._task = runner.get_loop().create_task(self._call(app, _scope(request)))

    def next(self) -> Message:
        """The next message of the application. Raises what it raised instead."""
        return self._run(self._next())

    def finish(self) -> None:
        """Lets the application do what it does after the answer's last byte."""
        self._run(self._task)

    def abandon(self) -> None:
        """Ends the call, as where a client leaves."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            self._run(self._task)

    async def _call(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self._receive, self._messages.put)

    async def _next(self) -> Message:
        message = asyncio.ensure_future(self._messages.get())
        await asyncio.wait((message, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not message.done():
            message.cancel()
            self._task.result()
        return await message

    async def _receive(self) -> Message:
        if self._body is None:
            await asyncio.Event().wait()  # for a client that leaves, which this one does not
        body, self._body = self._body, None
        return {"type": "http.request", "body": body or b"", "more_body": False}


class _Body(httpx.SyncByteStream):
    """The bytes of an answer."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._whole = False

    def __iter__(self) -> Iterator[bytes]:
        more = True
        while more:
            message = self._exchange.next()
            more = message.get("more_body", False)
            yield message.get("body", b"")
        self._whole = True

    def close(self) -> None:
        """Ends the call, whether or not the answer was read to its end."""
        if self._whole:
            self._exchange.finish()
        else:
            self._exchange.abandon()


def _scope(request: httpx.Request) -> Scope:
    path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port),
        "client": (WHERE, 0),
        "state": {},
    }
