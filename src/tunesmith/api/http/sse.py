"""Server-sent events that notice at once when the client disconnects.

This works even while the engine is silent.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from tunesmith.api.http.errors import without_places
from tunesmith.errors import ServerFault, ServiceUnavailable, TunesmithError

log = structlog.get_logger(__name__)


_open: "set[EventStream]" = set()  # touched by the event loop only


class EventStream(Response):
    """Sends each object as one `data:` line, then [DONE].

    `close` is called at the end, however it comes.

    A fault before the first event is an ordinary error answer; a later one is sent as an event, as OpenAI does, and
    nothing follows it.
    """

    def __init__(
        self,
        events: AsyncIterator[Mapping[str, object]],
        close: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache", **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._cut_by: TunesmithError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response; closes the answer when the client disconnects."""
        watch = asyncio.create_task(close_on_disconnect(receive, self._close))
        _open.add(self)
        try:
            first = await anext(self._events, None)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if first is not None:
                await send(_event(orjson.dumps(first)))
            await self._send_rest(send, Request(scope))
        finally:
            _open.discard(self)
            self._close()
            watch.cancel()

    def cut(self, error: TunesmithError) -> None:
        """End the answer where it is; the client gets `error` as the last event."""
        self._cut_by = error
        self._close()

    async def _send_rest(self, send: Send, request: Request) -> None:
        try:
            async for event in self._events:
                await send(_event(orjson.dumps(event)))
            if self._cut_by is not None:
                raise self._cut_by
        except TunesmithError as error:
            envelope = error.envelope(without_places(request, error.message))
            await send(_event(orjson.dumps(envelope), more=False))
        except Exception:
            log.exception("fault in a stream")
            fault = ServerFault("The server had an error while it wrote this answer; its log has the details.")
            await send(_event(orjson.dumps(fault.envelope()), more=False))
        else:
            await send(_event(b"[DONE]", more=False))


def open_streams() -> int:
    """How many answers are being streamed."""
    return len(_open)


def cut_streams() -> None:
    """End all of them, since the server stops; each client gets an error event."""
    for stream in [*_open]:
        stream.cut(ServiceUnavailable("The server is stopping: the answer is not complete. Ask again in a moment."))


async def close_on_disconnect(receive: Receive, close: Callable[[], None]) -> None:
    """Runs beside an answer. The request's body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
    close()


def _event(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": more}
