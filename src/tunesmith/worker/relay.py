"""From a trainer's lines to the job's rows.

A resumed trainer repeats what it reported before; steps and checkpoints that the store knows are dropped there, log
lines here. When the database is away lines wait, in order, and go with the next try.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.errors import ServiceUnavailable
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import Lease, NewCheckpoint, NewEvent, Store
from tunesmith.worker import openai_events as wording


@dataclass(slots=True)
class Relay:
    """`done` and `failed`: the trainer's last line, once it has come. `said`: log lines that are events already."""

    store: Store
    lease: Lease
    last_step: int
    said: set[str]
    keep_checkpoints: int
    done: JsonObject | None = None
    failed: JsonObject | None = None
    _events: list[NewEvent] = field(default_factory=list)
    _checkpoints: list[NewCheckpoint] = field(default_factory=list)
    _total_steps: int | None = None
    _estimated_finish: int | None = None

    def take(self, lines: Iterable[JsonObject]) -> None:
        for line in lines:
            match line.get("type"):
                case "started":
                    self._total_steps = _whole(line, "total_steps")
                case "step":
                    self._step(line)
                case "checkpoint":
                    checkpoint = NewCheckpoint(
                        _whole(line, "step"), Path(str(line["path"])), wording.checkpoint_metrics(line)
                    )
                    self._checkpoints.append(checkpoint)
                case "log":
                    self._log(wording.log_event(line))
                case "done":
                    self.done = line
                case "failed":
                    self.failed = line

    def send(self) -> bool:
        """Whether all went into the store. LeaseLost when the job is no longer ours."""
        try:
            if self._events or self._total_steps is not None:
                self.store.queue.append(
                    self.lease, self._events, total_steps=self._total_steps, estimated_finish=self._estimated_finish
                )
                self._events, self._total_steps, self._estimated_finish = [], None, None
            while self._checkpoints:
                self.store.queue.add_checkpoint(self.lease, self._checkpoints[0], keep=self.keep_checkpoints)
                del self._checkpoints[0]
        except ServiceUnavailable:
            return False
        return True

    def _step(self, line: JsonObject) -> None:
        step = _whole(line, "step")
        if step <= self.last_step:
            return
        if step > self.last_step + 1:
            missing = f"{self.last_step + 1} to {step - 1}"
            self._events.append(NewEvent(f"Steps {missing} were trained, but their measures are lost", level="warn"))
        self.last_step = step
        self._events.append(wording.step_event(line))
        seconds = line.get("seconds_left")
        if isinstance(seconds, int | float):
            self._estimated_finish = int(time.time() + seconds)

    def _log(self, event: NewEvent) -> None:
        if event.message and event.message not in self.said:
            self.said.add(event.message)
            self._events.append(event)


def _whole(line: JsonObject, key: str) -> int:
    value = line[key]
    if not isinstance(value, int):
        raise TypeError(f"The trainer's {line.get('type')} line has {key}={value!r}, which is no whole number.")
    return value
