"""What the nodes of a job have to hand on, and how its trainer has ended.

They are asked in turn. It imports no Ray.

Rank 0, which reports and writes, is on the first node. Where another node is lost its ranks end those that live, and
rank 0 saves the progress: so the loss is told only when that is done.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tunesmith.launch.ranks import END_SECONDS
from tunesmith.launch.ray.order import MEMORY, OUTSIDE, Part
from tunesmith.train.protocol.exit_status import STOPPED

KILLED = -9


class Late(Exception):
    """The node did not answer this time."""


class Lost(Exception):
    """The trainer is gone with its node, its actor or the cluster."""

    def __init__(self, cause: str, reason: str) -> None:
        super().__init__(reason)
        self.cause, self.reason = cause, reason


class Asked(Protocol):
    """An actor on a node."""

    def read(self, events_from: int, log_from: int) -> Part:
        """What follows these offsets. Raises Late or Lost."""
        ...

    def stop(self) -> None:
        """Asks it to end its trainers."""
        ...


@dataclass(slots=True)
class Node:
    """One node, and what has come from it.

    `silence`: seconds after which it counts as lost.
    """

    actor: Asked
    silence: float
    part: Part | None = None  # the last one, once its trainers have ended
    lost: Lost | None = None
    _events: int = 0  # bytes so far
    _log: int = 0
    _heard: float = field(default_factory=time.monotonic)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes from it."""
        return self.part is not None or self.lost is not None

    @property
    def has_failed(self) -> bool:
        """Whether the other nodes cannot go on without it."""
        return self.lost is not None or (self.part is not None and self.part.status != 0)

    def read(self) -> Part | None:
        """What is new; None where it did not answer, or has ended."""
        if self.has_ended:
            return None
        try:
            part = self.actor.read(self._events, self._log)
        except Late:
            if time.monotonic() - self._heard > self.silence:
                self.lost = Lost(OUTSIDE, "The node of the trainer has not answered for long")
            return None
        except Lost as lost:
            self.lost = lost
            return None
        self._heard = time.monotonic()
        self._events += len(part.events)
        self._log += len(part.log)
        if part.is_last():
            self.part = part
        return part


@dataclass(slots=True)
class Relay:
    """The nodes of one job, that of rank 0 first.

    `write` takes what comes from that one, `write_log` the logs of the others.
    """

    nodes: Sequence[Node]
    write: Callable[[Part], None]
    write_log: Callable[[Part], None]
    moved: bool = False  # whether the last step brought anything
    late: bool = False  # whether a node did not answer in it
    _stopped: bool = False
    _failed_at: float | None = None

    def step(self) -> int | None:
        """Asks each node once; the trainer's status where all have ended. Raises Lost."""
        self.moved = self.late = False
        for number, node in enumerate(self.nodes):
            part = node.read()
            if part is not None:
                (self.write_log if number else self.write)(part)
                self.moved |= bool(part.events or part.log)
            elif not node.has_ended:
                self.late = True
        first = self.nodes[0]
        if first.lost is not None:
            raise first.lost
        if all(node.has_ended for node in self.nodes):
            return self._status(first)
        self._end_late()
        return None

    def stop(self) -> None:
        """Asks all nodes to end, once."""
        if not self._stopped:
            self._stopped = True
            for node in self.nodes:
                if not node.has_ended:
                    node.actor.stop()

    def _end_late(self) -> None:
        """Ranks end by themselves when others are gone; those that do not within `END_SECONDS` are told."""
        if any(node.has_failed for node in self.nodes):
            self._failed_at = self._failed_at or time.monotonic()
            if time.monotonic() - self._failed_at > END_SECONDS:
                self.stop()

    def _status(self, first: Node) -> int:
        """Rank 0's, or why it was interrupted."""
        status = _status_of(first)
        if status == STOPPED:
            for node in self.nodes[1:]:
                if node.lost is not None:
                    raise node.lost
                _status_of(node)
        return status


def _status_of(node: Node) -> int:
    """Raises Lost for a trainer that was killed."""
    status = (node.part.status if node.part else None) or 0
    if status == KILLED:
        if node.part and node.part.out_of_memory:
            raise Lost(MEMORY, "The node ran out of memory, and the trainer was killed")
        raise Lost(OUTSIDE, "The trainer was killed by signal 9 from outside")
    return status
