"""The actor: starts a trainer on its node, and keeps what that writes.

It imports no Ray, but for its node's address. Its calls come from several threads. The trainer ends with it, since it
holds the trainer's stdin; and it ends the trainer when the worker has been silent for as long as a lease lasts: the job
may be another's by then.
"""

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tunesmith import __version__
from tunesmith.errors import TunesmithError
from tunesmith.launch.child import ChildLauncher
from tunesmith.launch.protocol import Start, Trainer
from tunesmith.launch.ranks import RanksLauncher
from tunesmith.launch.ray.files import NodeFiles, files_on_node
from tunesmith.launch.ray.order import NodeOrder, order_version
from tunesmith.system.memory import out_of_memory_kills
from tunesmith.system.private import make_new_files_private
from tunesmith.train.protocol.environment import trainer_environment
from tunesmith.train.protocol.exit_status import STOPPED

READ_BYTES = 1 << 20  # at most so many of the events, and of the log, in one answer
WATCH_SECONDS = 0.1


@dataclass(slots=True)
class Outbox:
    """Bytes that wait to be fetched.

    Those before the last offset that was asked for are dropped.
    """

    _bytes: bytearray = field(default_factory=bytearray)
    _start: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, data: bytes) -> None:
        """Adds bytes at the end."""
        with self._lock:
            self._bytes += data

    def get(self, offset: int) -> bytes:
        """Up to `READ_BYTES` bytes from `offset` on; the same again if asked again."""
        with self._lock:
            del self._bytes[: offset - self._start]
            self._start = offset
            return bytes(self._bytes[:READ_BYTES])


@dataclass(slots=True)
class Tail:
    """Reads a growing file from where it stopped."""

    path: Path
    whole_lines: bool
    offset: int = 0

    def read(self) -> bytes:
        """The bytes since the last call; only whole lines where lines are wanted."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(READ_BYTES)
        except FileNotFoundError:
            return b""
        if self.whole_lines and not data.endswith(b"\n"):
            data = data[: data.rfind(b"\n") + 1] or (data if len(data) == READ_BYTES else b"")
        self.offset += len(data)
        return data


class NodeTrainer:
    """One trainer on this node."""

    def __init__(self) -> None:
        self._events, self._log = Outbox(), Outbox()
        self._heard = time.monotonic()
        self._status: int | None = None
        self._trainer: Trainer | None = None
        self._port: socket.socket | None = None
        self._kills = out_of_memory_kills()

    def node(self) -> str:
        """This node's name, for people."""
        return socket.gethostname()

    def meeting(self) -> tuple[str, int]:
        """Address and free port of this node, where ranks of several nodes meet.

        The port stays bound, so that no other program is given it before rank 0 listens.
        """
        import ray.util

        address_of_node = cast("Callable[[], str]", ray.util.get_node_ip_address)
        address = address_of_node()
        self._port = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # rank 0 may listen there all the same
        self._port.bind((address, 0))
        return address, int(self._port.getsockname()[1])

    def start(self, order_text: str) -> str | None:
        """Starts the trainer; why it cannot, as a sentence, where it cannot."""
        if order_version(order_text) != __version__:
            theirs = order_version(order_text)
            return (
                f"Node {self.node()} has Tunesmith {__version__}, the worker has {theirs}. Give both the same: its"
                " image, or the setting ray_runtime_env."
            )
        make_new_files_private()
        order = NodeOrder.from_json(order_text)
        try:
            files = files_on_node(order)
            self._trainer = _launcher(order).start(_start(order, files))
        except TunesmithError as error:
            return self._refusal(error, error.message)
        except OSError as error:
            return self._refusal(error, f"a file cannot be read or written ({error.strerror}).")
        self._heard = time.monotonic()
        pump = _Pump(self._trainer, files, self._events, self._log)
        threading.Thread(target=self._watch, args=(pump, order.silence), name="watch", daemon=True).start()
        return None

    def _refusal(self, error: Exception, text: str) -> str:
        """For the job's owner; what names files and servers goes to Ray's own log of this process."""
        print(error, file=sys.stderr)  # noqa: T201
        return f"Node {self.node()}: {text}"

    def read(self, events_from: int, log_from: int) -> tuple[bytes, bytes, int | None, bool]:
        """The fields of a `Part`: what follows these offsets. The worker lives."""
        self._heard = time.monotonic()
        status = self._status  # before the bytes, so that the last ones are complete
        out_of_memory = out_of_memory_kills() > self._kills
        return self._events.get(events_from), self._log.get(log_from), status, out_of_memory

    def stop(self) -> None:
        """See `Trainer.stop`."""
        if self._trainer is not None:
            self._trainer.stop()

    def _watch(self, pump: "_Pump", silence: float) -> None:
        try:
            self._status = self._pumped(pump, silence)
        except Exception:  # without this thread nobody would hear of the trainer again
            self.stop()
            self._log.put(traceback.format_exc().encode())
            self._status = STOPPED

    def _pumped(self, pump: "_Pump", silence: float) -> int:
        """Pumps until the trainer has ended; its status."""
        ended = False
        while (status := pump.step()) is None:
            time.sleep(WATCH_SECONDS)
            if not ended and time.monotonic() - self._heard > silence:
                ended = True
                self.stop()
        return status


@dataclass(slots=True)
class _Pump:
    """From the trainer's files to the outboxes."""

    trainer: Trainer
    files: NodeFiles
    events: Outbox
    log: Outbox
    _tails: tuple[Tail, Tail] = field(init=False)

    def __post_init__(self) -> None:
        self._tails = Tail(self.files.events, whole_lines=True), Tail(self.files.log, whole_lines=False)

    def step(self) -> int | None:
        """Hands on what there is; the trainer's status once it has ended and all is in the outboxes."""
        status = self.trainer.poll()  # before reading, so that the last read is complete
        events, log = self._tails
        while self._move(events, self.events, self.files.handed_on) + self._move(log, self.log, bytes):
            pass
        self.files.keep_progress(last=status is not None)
        if status is not None:
            self.trainer.stop()  # closes its stdin
            self.files.close()
        return status

    def _move(self, tail: Tail, box: Outbox, change: Callable[[bytes], bytes]) -> int:
        data = tail.read()
        box.put(change(data))
        return len(data)


def _launcher(order: NodeOrder) -> RanksLauncher:
    return RanksLauncher(order.ranks, ChildLauncher(order.module), order.team)


def _start(order: NodeOrder, files: NodeFiles) -> Start:
    given = dict(os.environ)
    if not order.gpus:
        given["CUDA_VISIBLE_DEVICES"] = ""  # those of the node are others'
    return Start(
        spec=files.spec,
        events=files.events,
        log=files.log,
        lock=files.lock,
        nice=order.nice,
        idle=order.idle,
        environment=trainer_environment(given),
    )
