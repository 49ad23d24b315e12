"""A proxy in front of several servers: each request goes to the next one that is ready.

What every proxy does and no more: it asks /healthz, and tries another server where one refuses the connection. Nothing
that was sent is sent again. A connection carries one request, so bytes need no understanding behind a request's head.
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

Address = tuple[str, int]

HEALTH_SECONDS = 0.1  # between two questions
SILENCE_SECONDS = 1.0  # of a server that is asked for its health
WAIT_SECONDS = 60.0  # of a request, for any server
CHUNK = 64 * 1024
MOST_HEAD = 128 * 1024
NOBODY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass
class Proxy:
    """Shares requests out among servers, which may change while it runs."""

    servers: list[Address]
    port: int = 0
    ready: dict[Address, bool] = field(default_factory=dict)
    sent: Counter[Address] = field(default_factory=Counter)
    refused: int = 0
    _turn: int = 0

    async def run(self, stop: asyncio.Event, listening: threading.Event) -> None:
        """Serves until `stop`."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=MOST_HEAD)
        self.port = server.sockets[0].getsockname()[1]
        watching = asyncio.create_task(self._watch())
        listening.set()
        await stop.wait()
        watching.cancel()
        server.close()

    def next(self) -> Sequence[Address]:
        """The servers in the order in which a request tries them."""
        known = [one for one in self.servers if self.ready.get(one)]
        self._turn += 1
        start = self._turn % max(1, len(known))
        return known[start:] + known[:start]

    async def _watch(self) -> None:
        while True:
            for address in [*self.servers]:
                self.ready[address] = await _is_ready(address)
            await asyncio.sleep(HEALTH_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            async with closing(writer):
                head = await reader.readuntil(b"\r\n\r\n")
                onward = await self._connected()
                if onward is None:
                    writer.write(NOBODY)
                    return
                async with closing(onward[1]):
                    await _exchange(_of_one_request(head), (reader, writer), onward)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            for address in self.next():
                try:
                    connection = await asyncio.open_connection(*address)
                except ConnectionRefusedError:
                    self.refused += 1
                    continue
                self.sent[address] += 1
                return connection
            await asyncio.sleep(HEALTH_SECONDS / 2)
        return None


@contextmanager
def proxying(servers: list[Address]) -> Iterator[Proxy]:
    """A proxy that runs in a thread of its own."""
    proxy, listening = Proxy(servers), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=_run, args=(loop, proxy, stop, listening), name="proxy")
    thread.start()
    assert listening.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, proxy: Proxy, stop: asyncio.Event, listening: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    loop.run_until_complete(proxy.run(stop, listening))
    rest = asyncio.all_tasks(loop)
    for task in rest:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Closes a connection when the block ends."""
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _of_one_request(head: bytes) -> bytes:
    """The head with the wish to close the connection behind the answer."""
    lines = [line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


async def _exchange(
    head: bytes,
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Passes bytes on until the server has answered, or the client has gone."""
    server[1].write(head)
    asking = asyncio.create_task(_copy(client[0], server[1]))
    answering = asyncio.create_task(_copy(server[0], client[1]))
    try:
        await asyncio.wait([asking, answering], return_when=asyncio.FIRST_COMPLETED)
        if asking.done() and not answering.done() and asking.exception() is not None:
            await answering  # the server takes no more of a body: its answer says why
    finally:
        asking.cancel()
        answering.cancel()
        await asyncio.gather(asking, answering, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()


async def _is_ready(address: Address) -> bool:
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            reader, writer = await asyncio.open_connection(*address)
            async with closing(writer):
                writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                line = await reader.readline()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in line


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found
