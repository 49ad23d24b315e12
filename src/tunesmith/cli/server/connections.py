"""Connections within limits: their number, heads, and trailers.

A head has limits of length and time, and trailers one of length. Without them anyone, with no key, could take all
descriptors of the process, so that it accepts nobody else. Where there are too many, the one that has been idle for
longest makes room, first of those that never asked for anything.

Not covered: the bodies of requests, which `api.middleware.body_limits` reads.
"""

import asyncio
import resource
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024  # of the request line and all headers; of trailers too, which are dropped
HEAD_SECONDS = 20.0  # from the connection, or the first byte of a request, to the end of its head
ACCEPTED_AT_ONCE = 32  # of those that wait, before the others are heard; they are above the limit for a moment
LAST_HEAD_SECONDS, LAST_IDLE_SECONDS = 0.5, 0.05  # for requests that are on their way when the server ends
OWN_DESCRIPTORS = 256  # left for the database, files, children and answers under way
MOST_DESCRIPTORS = 65_536
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\ncontent-length: 47\r\n"
    b"connection: close\r\n\r\nThe URL and headers are longer than 65536 bytes"
)


def most_connections() -> int:
    """How many connections this process takes.

    Raises its limit of descriptors as far as it may.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(16, max(soft, wanted) - OWN_DESCRIPTORS)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the limits of this module."""

    most = MOST_DESCRIPTORS
    new: ClassVar[dict["BoundedProtocol", None]] = {}  # without a whole request so far, oldest first
    idle: ClassVar[dict["BoundedProtocol", None]] = {}  # between two requests, idle for longest first
    _head_bytes = 0
    _in_head = True
    _idle_bytes = 0  # since the body's last: chunk extensions, and trailers
    _head_timer: asyncio.TimerHandle | None = None
    _is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room for the connection where there are too many.

        It is closed at once where all others are being answered.
        """
        if len(self.connections) >= self.most and not self._make_room():
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self.new[self] = None
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._got_head()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on, unless the head of the request has become too long."""
        if self.transport.is_closing():
            return
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
        if max(self._head_bytes, self._idle_bytes) > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._got_head()
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header, and drops a trailer.

        Behind a chunked body a trailer would become a header of the request, which no proxy in front has seen, and
        which nobody has counted.
        """
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Passes a part of the body on."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is there."""
        self._idle_bytes = 0
        super().on_message_complete()

    def on_message_begin(self) -> None:
        """Begins to wait for the head of a request."""
        super().on_message_begin()
        self._in_head = True
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._got_head()
        self._leave()
        self._in_head = False
        self._idle_bytes = 0
        super().on_headers_complete()
        if self._is_ending and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """The answer has been sent."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():  # otherwise the next request has begun
            self.idle[self] = None

    def shutdown(self) -> None:
        """Ends the connection behind the answer under way.

        Without one it stays open for a moment: a request may have been sent that has not been read yet.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
            return
        self._is_ending = True
        seconds = LAST_IDLE_SECONDS if self._head_timer is None else LAST_HEAD_SECONDS
        self.loop.call_later(seconds, super().shutdown)

    def _make_room(self) -> bool:
        oldest = next((one for those in (self.new, self.idle) for one in those if one._same_server(self)), None)
        if oldest is None:
            return False
        oldest._leave()
        self.connections.discard(oldest)  # now, since the transport says so only in the next turn of the loop
        oldest.transport.abort()
        return True

    def _same_server(self, other: "BoundedProtocol") -> bool:
        return self.connections is other.connections

    def _leave(self) -> None:
        self.new.pop(self, None)
        self.idle.pop(self, None)

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _got_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.abort()
