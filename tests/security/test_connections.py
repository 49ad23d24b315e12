"""Connections without a key: a head that never ends, one that is too long, and too many of them."""

import asyncio
import socket
import sys

import pytest
import uvicorn

from tunesmith.cli.server import connections
from tunesmith.cli.server.connections import BoundedProtocol

ASK = b"GET / HTTP/1.1\r\nhost: a\r\n"


async def app(scope: dict[str, object], receive: object, send: object) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


async def slow_app(scope: dict[str, object], receive: object, send: object) -> None:
    await asyncio.sleep(1)
    await app(scope, receive, send)


async def body_app(scope: dict[str, list[tuple[bytes, bytes]]], receive: object, send: object) -> None:
    """Reads all of the body; 401 without a header `authorization`."""
    while (await receive()).get("more_body"):  # type: ignore[operator]
        pass
    status = 204 if any(name == b"authorization" for name, _ in scope["headers"]) else 401
    await send({"type": "http.response.start", "status": status, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


async def answers(parts: list[list[bytes]]) -> list[bytes]:
    """What a server sends on connections that are all open at once, each sent its parts."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=BoundedProtocol, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    opened = [await asyncio.open_connection(*listener.getsockname()) for _ in parts]
    for (_, writer), own in zip(opened, parts, strict=True):
        for part in own:
            writer.write(part)
    found = [await read(reader) for reader, _ in opened]
    for _, writer in opened:
        writer.close()
    server.should_exit = True
    await serving
    return found


async def read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(100), 10)
    except (ConnectionResetError, BrokenPipeError):
        return b""
    except TimeoutError:
        return b"left open"


def test_long_head_is_refused() -> None:
    long = [ASK, *[b"x-%d: %s\r\n" % (n, b"y" * 60_000) for n in range(8)]]
    url = [b"GET /", *[b"z" * 60_000] * 8]
    found = asyncio.run(answers([long, url, [ASK, b"\r\n"]]))
    assert {found[0][9:12], found[1][9:12]} <= {b"431", b""}  # empty: the connection was reset while it still sent
    assert found[2][9:12] == b"204"


CHUNKED = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"
ENDLESS = {
    "trailers": [CHUNKED, b"0\r\n", *[b"x-a: %s\r\n" % (b"y" * 60_000)] * 8],
    "short trailers": [CHUNKED, b"0\r\n", *[b"a:\r\n" * 15_000] * 8],
    "one trailer": [CHUNKED, b"0\r\nx-a: ", *[b"y" * 60_000] * 8],
    "chunk extension": [CHUNKED, b"2;a=", *[b"y" * 60_000] * 8],
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_belongs_to_no_body_has_an_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "app", body_app)
    (found,) = asyncio.run(answers([ENDLESS[kind]]))
    assert found == b"" or found[9:12] == b"431"  # empty: the connection was reset while it still sent


def test_a_trailer_is_no_header_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "app", body_app)
    trailers = CHUNKED + b"0\r\nauthorization: Bearer a\r\n\r\n"
    header = ASK + b"authorization: Bearer a\r\n\r\n"
    found = asyncio.run(answers([[trailers + header], [header]]))
    assert [one[9:12] for one in found] == [b"401", b"204"]  # 204 for both before: all of it came at once


def test_half_a_head_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    assert asyncio.run(answers([[ASK], [], [b"POST"]])) == [b"", b"", b""]


def test_the_connection_that_was_idle_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "most", 2)
    whole = [ASK, b"\r\n"]
    found = asyncio.run(answers([[], whole, whole]))
    assert [one[9:12] for one in found] == [b"", b"204", b"204"]
    assert not BoundedProtocol.new
    assert not BoundedProtocol.idle


def test_a_connection_that_is_answered_makes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "most", 2)

    async def ask_three() -> list[bytes]:
        config = uvicorn.Config(slow_app, http=BoundedProtocol, log_config=None, lifespan="off")
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        readers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(ASK + b"\r\n")
            await asyncio.sleep(0.1)
            readers.append((reader, writer))
        found = [await read(reader) for reader, _ in readers]
        for _, writer in readers:
            writer.close()
        server.should_exit = True
        await serving
        return found

    assert [one[9:12] for one in asyncio.run(ask_three())] == [b"204", b"204", b""]
