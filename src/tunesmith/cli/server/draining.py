"""A server that is about to end says so, and answers on for a while.

`/healthz` is answered with 503, so that a proxy takes the server out, and every answer asks its connection to close, so
that no proxy keeps one for later.
"""

import asyncio
import json
import select
import socket
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ACCEPT_SECONDS = 1.0  # at most, for connections that wait in the system's queue
NOT_READY = json.dumps({"status": "draining"}).encode()


class Draining:
    """Passes requests through, from `begin()` on with the marks of a server that ends.

    `seconds`: for how long it answers on then.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.seconds = seconds
        self._app = app
        self.begun = False

    def begin(self) -> None:
        """Say from now on that the server ends."""
        self.begun = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or refuses a question for the server's health."""
        if not self.begun or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == "/healthz":
            await _say_not_ready(send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, closing)


async def accept_waiting(listeners: Sequence[socket.socket]) -> None:
    """Accept what waits in the listeners' queues.

    Closing them would reset those connections.
    """
    poll, end = select.poll(), asyncio.get_running_loop().time() + ACCEPT_SECONDS
    for listener in listeners:
        poll.register(listener, select.POLLIN)
    while poll.poll(0) and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0)


async def _say_not_ready(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(NOT_READY)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": NOT_READY})
