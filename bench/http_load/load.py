"""Asks a server many times, on one or many kept-open connections, and notes how long each answer took.

Written on asyncio's transports, because a client library would cost more than what is measured: `limit` finds out how
many requests a second this generator can ask for at all, of a server that does nothing.

Not covered: chunked answers, redirects, answers that end with the connection.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

END = b"\r\n\r\n"
NOTHING = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    key: str = ""
    body: bytes = b""
    content_type: str = "application/json"

    def encode(self, host: str) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", f"host: {host}", f"authorization: Bearer {self.key}"]
        if self.body:
            lines += [f"content-type: {self.content_type}", f"content-length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each answer, and of the whole."""

    answers: Sequence[float]
    total: float

    @property
    def rate(self) -> float:
        return len(self.answers) / self.total

    def percentile(self, percent: int) -> float:
        """Milliseconds."""
        return 1000 * statistics.quantiles(self.answers, n=100, method="inclusive")[percent - 1]


def ask(address: tuple[str, int], requests: Sequence[Request], *, connections: int = 1) -> Timing:
    """Sends every request once, in order, over so many connections. Raises RuntimeError at an answer that is no 200."""
    return asyncio.run(_ask(address, [request.encode(address[0]) for request in requests], connections))


async def _ask(address: tuple[str, int], requests: Sequence[bytes], connections: int) -> Timing:
    loop, waiting, clients = asyncio.get_running_loop(), iter(requests), []
    for _ in range(connections):
        client = _Client(waiting, loop.create_future())
        await loop.create_connection(lambda client=client: client, *address)  # type: ignore[misc]
        clients.append(client)
    started = time.perf_counter()
    for client in clients:
        client.next()
    await asyncio.gather(*(client.done for client in clients))
    total = time.perf_counter() - started
    return Timing([seconds for client in clients for seconds in client.answers], total)


class _Client(asyncio.Protocol):
    def __init__(self, waiting: Iterator[bytes], done: "asyncio.Future[None]") -> None:
        self.waiting = waiting
        self.done = done
        self.answers: list[float] = []
        self.received = bytearray()
        self.expected = 0  # bytes of this answer, head and body, once its head has come
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def next(self) -> None:
        request = next(self.waiting, None)
        if request is None:
            self.transport.close()
            self.done.set_result(None)
            return
        self.sent = time.perf_counter()
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.expected and (end := self.received.find(END)) >= 0:
            self.expected = end + len(END) + _length(self.received[:end])
        if not self.expected or len(self.received) < self.expected:
            return
        self.answers.append(time.perf_counter() - self.sent)
        if not self.received.startswith(b"HTTP/1.1 200"):
            self._fail(bytes(self.received[:500]).decode(errors="replace"))
            return
        self.received.clear()
        self.expected = 0
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the server closed the connection")

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"No answer to measure: {reason}"))


def _length(head: bytearray) -> int:
    name = b"content-length: "
    start = head.lower().index(name) + len(name)
    end = head.find(b"\r\n", start)
    return int(head[start : end if end >= 0 else len(head)])


def limit(connections: int, requests: int = 5000) -> float:
    """Requests a second against a process that answers `{}` without reading: more than this cannot be seen."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_answer_nothing, args=(theirs,), daemon=True)
    process.start()
    try:
        return ask(ours.recv(), [Request("GET", "/")] * requests, connections=connections).rate
    finally:
        process.terminate()
        process.join()


def _answer_nothing(pipe: Connection) -> None:
    class Nothing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(NOTHING)  # type: ignore[attr-defined]

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname())
        await server.serve_forever()

    asyncio.run(serve())
