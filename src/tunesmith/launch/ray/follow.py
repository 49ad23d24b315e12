"""One trainer on the cluster, from the connection to its last line."""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TextIO

from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.child import STOP_SECONDS
from tunesmith.launch.ray.cluster import Actor, Late, Lost, NoCluster, actor_of, connect, disconnect, totals
from tunesmith.launch.ray.files import patiently
from tunesmith.launch.ray.order import MEMORY, OUTSIDE, NodeOrder, Order, Part
from tunesmith.launch.ray.transfer import put_inputs
from tunesmith.settings import Resources
from tunesmith.store.storage.bucket import open_bucket
from tunesmith.store.storage.model_folders import BucketFolders
from tunesmith.train.protocol.events import SETUP, EventWriter, Interrupted, Log

STOPPED = 143
KILLED = -9
AGAIN_SECONDS = 1.0  # between two tries to reach the cluster
QUIET_SECONDS = 10.0  # a job waits so long for a node before its owner hears of it
READ_SECONDS = 0.1
SETTLE_SECONDS = STOP_SECONDS + 5.0  # after its silence a node takes so long to end the trainer


class Stopped(Exception):
    """The worker asked for the end."""


def follow(order: Order, stdout: TextIO, stop: Event, connected: Callable[[], None]) -> int:
    """Has the trainer run and hands on what it writes; its exit status.

    `connected` is called once Ray is. A trainer that is lost ends with an `Interrupted` event and 143.
    """
    following = _Following(order, stdout, stop)
    try:
        return following.run(connected)
    except Stopped:
        return STOPPED
    except Lost as lost:
        following.emit(Interrupted(lost.cause, lost.reason))
        return STOPPED
    except TunesmithError as error:
        following.emit(Interrupted(SETUP, str(error)))
        return STOPPED
    finally:
        disconnect(following.actor)


@dataclass(slots=True)
class _Following:
    order: Order
    stdout: TextIO
    stop: Event
    emit: EventWriter = field(init=False)
    actor: Actor | None = None

    def __post_init__(self) -> None:
        self.emit = EventWriter(self.stdout)

    def run(self, connected: Callable[[], None]) -> int:
        text = self._node_order().to_json()
        self._connect(connected)
        self.actor = actor_of(self.order)
        self._place(self.actor, text)
        return self._relay(self.actor)

    def _connect(self, connected: Callable[[], None]) -> None:
        """Waits for the cluster, however long that takes: the job is not to blame."""
        told = ""
        while True:
            try:
                connect(self.order)
                break
            except NoCluster as error:
                text = no_cluster(self.order.address, refuses=error.refuses)
                if text != told:
                    self.emit(Log("warn", text))
                    print(f"{text} ({error}).", file=sys.stderr)  # noqa: T201  # the log is the operator's
                    told = text
            finally:
                connected()
            self._pause(AGAIN_SECONDS)
        if told:
            self.emit(Log("info", f"The Ray cluster at {self.order.address} answers"))

    def _place(self, actor: Actor, text: str) -> None:
        """Waits until a node has started the trainer."""
        started, since, told = actor.begin(text), time.monotonic(), False
        while not started(READ_SECONDS):
            self._pause(0)
            if not told and time.monotonic() - since > QUIET_SECONDS:
                told = True
                self.emit(Log("info", waiting_for(self.order.resources)))
        os.utime(self.order.spec)  # the time that the job trains is counted from here

    def _relay(self, actor: Actor) -> int:
        """Hands on what the node has until the trainer has ended; its status."""
        writer = _Writer(self.order, self.stdout)
        heard, asked = time.monotonic(), False
        while True:
            try:
                part = actor.read(writer.events, writer.log)
            except Late:
                self._pause(0)
                if time.monotonic() - heard > self.order.silence + SETTLE_SECONDS:
                    raise Lost(OUTSIDE, "The node of the trainer has not answered for long") from None
                continue
            heard = time.monotonic()
            writer.write(part)
            if part.is_last():
                return self._ended(part)
            if self.stop.is_set() and not asked:
                asked = True
                actor.stop()
            if not part.events and not part.log:
                time.sleep(READ_SECONDS)

    def _ended(self, part: Part) -> int:
        status = part.status or 0
        if status == KILLED:
            if part.out_of_memory:
                raise Lost(MEMORY, "The node ran out of memory, and the trainer was killed")
            raise Lost(OUTSIDE, "The trainer was killed by signal 9 from outside")
        return status

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped

    def _node_order(self) -> NodeOrder:
        order = self.order
        spec = order.spec.read_text("utf-8")
        inputs = {}
        if order.bucket is not None:
            bucket = open_bucket(order.bucket.url, order.bucket.endpoint)
            inputs = put_inputs(json.loads(spec), order.data_dir, bucket, order.bucket.gib)
        return NodeOrder(
            spec=spec,
            spec_path=order.spec,
            lock=order.lock,
            module=order.module,
            version=order.version,
            nice=order.nice,
            idle=order.idle,
            ranks=order.ranks,
            threads=max(1, math.floor(order.resources.cpus)),
            gpus=order.resources.gpus > 0,
            silence=order.silence,
            data_dir=order.data_dir,
            bucket=order.bucket,
            inputs=inputs,
        )


@dataclass(slots=True)
class _Writer:
    """Writes what comes from the node, and fetches the models that it names before the worker hears of them."""

    order: Order
    stdout: TextIO
    events: int = 0  # bytes so far
    log: int = 0
    _rest: bytes = b""

    def write(self, part: Part) -> None:
        self.events += len(part.events)
        self.log += len(part.log)
        sys.stderr.buffer.write(part.log)
        sys.stderr.flush()
        *lines, self._rest = (self._rest + part.events).split(b"\n")
        for line in lines:
            self._fetch(line)
            self.stdout.write(line.decode("utf-8", "replace") + "\n")
        self.stdout.flush()

    def _fetch(self, line: bytes) -> None:
        given = self.order.bucket
        if given is None or not any(f'"type": "{kind}"'.encode() in line for kind in ("checkpoint", "done")):
            return
        event: JsonObject = json.loads(line)
        folders = BucketFolders(self.order.data_dir, open_bucket(given.url, given.endpoint), given.gib)
        patiently(lambda: folders.fetch(Path(str(event["path"]))))


def no_cluster(address: str, *, refuses: bool) -> str:
    """Why the job waits, for its owner."""
    if address == "local":
        return "Ray does not start on the worker's machine: the job waits for it"
    if not refuses:
        return f"The Ray cluster at {address} does not answer: the job waits for it"
    return (
        f"The Ray cluster at {address} does not take the worker's connection: the job waits. Version and token"
        " (RAY_AUTH_MODE, RAY_AUTH_TOKEN) have to be the same for both"
    )


def waiting_for(wanted: Resources) -> str:
    """What the job waits for, and whether any node has as much."""
    parts = {"GPU": (wanted.gpus, "GPUs"), "CPU": (wanted.cpus, "processors"), "memory": (wanted.memory_gib, "GiB")}
    said = ", ".join(f"{count:g} {word}" for count, word in parts.values() if count)
    bytes_of = {"GPU": wanted.gpus, "CPU": wanted.cpus, "memory": wanted.memory_gib * 1024**3}
    fits = any(all(node.get(name, 0) >= count for name, count in bytes_of.items()) for node in totals())
    text = f"The job waits for a node of the Ray cluster with {said or 'room'}"
    return text if fits else f"{text}; no node that is there now has as much"
