"""Connections between rank 0 and each other rank, on which ends are told.

A death is seen there too: the kernel closes a dead process's connection, and asks after a silent machine every few
seconds (TCP keepalive, 25 in all). A rank that ends says how; one that says nothing was killed. Training itself may
take as long as it likes between two messages.

Not covered: a process that is stopped or hangs; nobody can tell it from a long step. Messages are not encrypted, as the
gradients are not: the ranks' network has to be a trusted one.
"""

import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Literal, TypeAlias

from tunesmith.errors import TrainerError
from tunesmith.train.core.interrupt import RankLost, Stopped

LINE_BYTES = 1 << 16
HELLO_SECONDS = 20.0
TELL_SECONDS = 5.0
OWN_WORDS_SECONDS = 1.0  # what fails on all ranks at once is said by rank 0 itself
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

How: TypeAlias = Literal["done", "stopped", "failed"]


class RankFailed(TrainerError):
    """Another rank has failed; the message, code and param are that rank's."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a rank has ended, in its own words."""

    how: How
    message: str = ""
    code: str | None = None
    param: str | None = None


class Watch:
    """One rank's connections.

    `lost` is called with RankLost, RankFailed or Stopped, in a thread, when a rank ends before the run has.
    """

    def __init__(self, rank: int, lost: Callable[[BaseException], None]) -> None:
        self._rank, self._lost = rank, lost
        self._connections: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self.reason: BaseException | None = None  # the first that `lost` was called with
        self._over: Ending | None = None  # how this rank has ended

    def listen(self, host: str, size: int) -> str:
        """Waits in a thread for the other ranks, and returns where they `connect`.

        Rank 0 only.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, 0), family=family, backlog=size)
        token = secrets.token_hex(16)
        _thread(self._accept, server, token, size - 1)
        return json.dumps({"host": host, "port": server.getsockname()[1], "token": token})

    def connect(self, address: str) -> None:
        """Connects to rank 0. Raises RankLost where it is gone."""
        where = json.loads(address)
        try:
            connection = socket.create_connection((where["host"], where["port"]), HELLO_SECONDS)
            connection.sendall(_line({"rank": self._rank, "token": where["token"]}))
        except OSError as error:
            raise RankLost(f"rank 0 cannot be reached at {where['host']}:{where['port']} ({error})") from error
        self._follow(connection, connection.makefile("rb"), 0)

    def tell(self, ending: Ending) -> None:
        """Tells the others how this rank ends; from here on no loss is reported."""
        with self._lock:
            self._over = ending
            connections = [*self._connections.values()]
        for connection in connections:
            _send(connection, ending)

    def _accept(self, server: socket.socket, token: str, count: int) -> None:
        server.settimeout(1.0)  # to see that all are here, and close
        with server:
            while len(self._connections) < count and not self._over:
                with suppress(TimeoutError):
                    _thread(self._greet, server.accept()[0], token)

    def _greet(self, connection: socket.socket, token: str) -> None:
        """Takes a connection whose first line is a rank's; drops any other."""
        connection.settimeout(HELLO_SECONDS)
        stream = connection.makefile("rb")  # one for all lines: it reads ahead
        try:
            hello = json.loads(stream.readline(LINE_BYTES))
            rank, given = int(hello["rank"]), str(hello["token"])
        except (OSError, ValueError, TypeError, KeyError):
            rank, given = 0, ""
        if hmac.compare_digest(given.encode(), token.encode()):
            self._follow(connection, stream, rank)
        else:
            stream.close()
            connection.close()

    def _follow(self, connection: socket.socket, stream: IO[bytes], rank: int) -> None:
        connection.settimeout(None)
        _keep_alive(connection)
        with self._lock:
            self._connections[rank] = connection
            over = self._over
        if over:
            _send(connection, over)
        _thread(self._read, connection, stream, rank)

    def _read(self, connection: socket.socket, stream: IO[bytes], rank: int) -> None:
        try:
            ending = Ending(**json.loads(stream.readline(LINE_BYTES)))
        except (OSError, ValueError, TypeError):
            ending = None
        stream.close()
        connection.close()
        reason = _reason(rank, ending)
        if isinstance(reason, RankFailed):
            time.sleep(OWN_WORDS_SECONDS)
        with self._lock:
            if reason is None or self._over or self.reason is not None:
                return
            self.reason = reason
        self._lost(reason)


def _reason(rank: int, ending: Ending | None) -> BaseException | None:
    if ending is None:
        return RankLost(f"rank {rank} ended without a word: it was killed, or its machine is gone")
    if ending.how == "done":
        return None
    if ending.how == "failed":
        return RankFailed(f"{ending.message} (Rank {rank} says so.)", code=ending.code, param=ending.param)
    return RankLost(ending.message) if ending.message else Stopped()  # who stops one of them stops the run


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # Linux has all three
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _send(connection: socket.socket, ending: Ending) -> None:
    with suppress(OSError):
        connection.settimeout(TELL_SECONDS)
        connection.sendall(_line(asdict(ending)))
        connection.shutdown(socket.SHUT_WR)


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _thread(run: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=run, args=arguments, name="ranks", daemon=True).start()
