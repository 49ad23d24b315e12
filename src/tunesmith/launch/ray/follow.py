"""One trainer on the cluster, from the connection to its last line."""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TextIO

from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.child import STOP_SECONDS
from tunesmith.launch.ranks import Team
from tunesmith.launch.ray.cluster import GIB, Actor, NoCluster, actors_of, connect, disconnect, totals
from tunesmith.launch.ray.files import patiently
from tunesmith.launch.ray.order import Input, NodeOrder, Order, Part
from tunesmith.launch.ray.relay import Lost, Node, Relay
from tunesmith.launch.ray.transfer import put_inputs
from tunesmith.settings import Resources
from tunesmith.store.storage.bucket import Bucket, StorageUnavailable, open_bucket
from tunesmith.store.storage.model_folders import BucketFolders
from tunesmith.train.protocol.events import SETUP, EventWriter, Interrupted, Log
from tunesmith.train.protocol.exit_status import STOPPED

AGAIN_SECONDS = 1.0  # between two tries to reach the cluster
QUIET_SECONDS = 10.0  # a job waits so long for a node before its owner hears of it
READ_SECONDS = 0.1
NO_STORAGE = "The object storage does not answer or refuses: the job waits for it"
PREPARING = "The job has its place on the Ray cluster, where its base and rows are being fetched"
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
        following.note(str(error))
        following.emit(Interrupted(SETUP, error.message))
        return STOPPED
    finally:
        disconnect(following.actors)


@dataclass(slots=True)
class _Following:
    order: Order
    stdout: TextIO
    stop: Event
    emit: EventWriter = field(init=False)
    actors: list[Actor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.emit = EventWriter(self.stdout)

    def note(self, text: str) -> None:
        """Writes what only the operator reads: the job's log."""
        print(text, file=sys.stderr)  # noqa: T201

    def run(self, connected: Callable[[], None]) -> int:
        order = self._node_order()
        self._connect(connected)
        self.actors = actors_of(self.order)
        self._place(order)
        return self._relay()

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
                    self.note(f"{text} ({error}).")
                    told = text
            finally:
                connected()
            self._pause(AGAIN_SECONDS)
        if told:
            self.emit(Log("info", f"The Ray cluster at {self.order.address} answers"))

    def _place(self, order: NodeOrder) -> None:
        """Waits until every node has started its trainers."""
        first, *others = self.actors
        waiting = _Waiting(self.order.resources, self.emit)
        if others:
            order = replace(order, team=self._team(first, waiting))
        started = [actor.begin(text) for actor, text in zip(self.actors, _of_each(order), strict=True)]
        arrivals = [actor.arrival() for actor in self.actors]
        while started:
            started = [one for one in started if not one(READ_SECONDS)]
            self._pause(0)
            waiting.tell(placed=all(there() for there in arrivals))
        os.utime(self.order.spec)  # the time that the job trains is counted from here

    def _team(self, first: Actor, waiting: "_Waiting") -> Team:
        """The nodes of the job, once they are there."""
        ask = first.meeting(READ_SECONDS)
        while (found := ask()) is None:
            self._pause(0)
            waiting.tell()
        return Team(len(self.actors), 0, *found)

    def _relay(self) -> int:
        """Hands on what the nodes have until the trainer has ended; its status."""
        writer = _Writer(self.order, self.stdout)
        nodes = [Node(actor, self.order.silence + SETTLE_SECONDS) for actor in self.actors]
        relay = Relay(nodes, writer.write, writer.write_log)
        while (status := relay.step()) is None:
            if self.stop.is_set():
                if relay.late:  # it does not hear of the end now; it ends by itself
                    raise Stopped
                relay.stop()
            if not relay.moved:
                time.sleep(READ_SECONDS)
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
            inputs = self._inputs(json.loads(spec), bucket, order.bucket.gib)
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

    def _inputs(self, spec: JsonObject, bucket: Bucket, gib: float) -> dict[str, Input]:
        """Puts what a node fetches, however long the storage does not answer: the job is not to blame."""
        told = False
        while True:
            try:
                return put_inputs(spec, self.order.data_dir, bucket, gib)
            except StorageUnavailable as error:
                if not told:
                    self.emit(Log("warn", NO_STORAGE))
                    self.note(str(error))
                    told = True
            self._pause(AGAIN_SECONDS)


def _of_each(order: NodeOrder) -> list[str]:
    """The order of each node."""
    team = order.team
    if team is None:
        return [order.to_json()]
    return [replace(order, team=replace(team, machine=number)).to_json() for number in range(team.machines)]


@dataclass(slots=True)
class _Waiting:
    """Tells the job's owner once that it waits for nodes, and once that these still prepare."""

    wanted: Resources
    emit: EventWriter
    since: float = field(default_factory=time.monotonic)
    told: bool = False
    placed: bool = False

    def tell(self, *, placed: bool = False) -> None:
        """`placed`: the job has its nodes."""
        if placed and not self.placed:
            self.placed, self.told, self.since = True, False, time.monotonic()
        if not self.told and time.monotonic() - self.since > QUIET_SECONDS:
            self.told = True
            self.emit(Log("info", PREPARING if placed else waiting_for(self.wanted)))


@dataclass(slots=True)
class _Writer:
    """Writes what comes from the node, and fetches the models that it names before the worker hears of them."""

    order: Order
    stdout: TextIO
    _rest: bytes = b""

    def write(self, part: Part) -> None:
        self.write_log(part)
        *lines, self._rest = (self._rest + part.events).split(b"\n")
        for line in lines:
            self._fetch(line)
            self.stdout.write(line.decode("utf-8", "replace") + "\n")
        self.stdout.flush()

    def write_log(self, part: Part) -> None:
        sys.stderr.buffer.write(part.log)
        sys.stderr.flush()

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
    said = ", ".join(f"{count:g} {word}" for count, word in parts.values() if count) or "room"
    bytes_of = {"GPU": wanted.gpus, "CPU": wanted.cpus, "memory": wanted.memory_gib * GIB}
    fit = sum(all(node.get(name, 0) >= count for name, count in bytes_of.items()) for node in totals())
    if wanted.nodes > 1:
        text = f"The job waits for {wanted.nodes} nodes of the Ray cluster with {said} each"
        return text if fit >= wanted.nodes else f"{text}; {fit} of those that are there now have as much"
    text = f"The job waits for a node of the Ray cluster with {said}"
    return text if fit else f"{text}; no node that is there now has as much"
