"""From a trainer's events to the job's rows in the database.

A resumed trainer repeats what it reported before; the store drops steps and checkpoints that it has, the relay drops
log events. While the database is unavailable events wait, in order, for the next try.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.errors import ServiceUnavailable
from tunesmith.estimate.verdict_time import VerdictPlan
from tunesmith.store import Lease, NewCheckpoint, NewEvent, Store
from tunesmith.train.protocol.events import Checkpoint, Done, Event, Failed, Interrupted, Log, Started, Step
from tunesmith.worker.openai_events import checkpoint_metrics, log_event, step_event

MOST_FIRST_STEPS = 500  # whose measures are kept until the job's end


@dataclass(slots=True)
class Relay:
    """Collects a trainer's events and sends them to the store.

    `done` and `failed`: the trainer's last event, once it has come. `logged`: messages that the job already has.
    `verdict`: what comes after the training, for the estimated finish.
    """

    store: Store
    lease: Lease
    last_step: int
    logged: set[str]
    keep_checkpoints: int
    verdict: VerdictPlan | None = None
    done: Done | None = None
    failed: Failed | None = None
    interrupted: Interrupted | None = None  # by its launcher's account
    begun: bool = False  # the trainer has said its first word
    first_steps: list[Step] = field(default_factory=list)  # of this attempt, if it began at the beginning
    element_bytes: int = 4  # of the base's weights, as the trainer says
    first_at: float = 0.0  # when the first of them came, by the monotonic clock
    _events: list[NewEvent] = field(default_factory=list)
    _checkpoints: list[NewCheckpoint] = field(default_factory=list)
    _total_steps: int | None = None
    _estimated_finish: int | None = None
    _begun: float = field(default_factory=time.monotonic)

    def take(self, events: Iterable[Event]) -> None:
        """Keeps the events for the next `send`."""
        for event in events:
            match event:
                case Started():
                    self.begun = True
                    self._total_steps = event.total_steps
                    self.element_bytes = event.element_bytes or self.element_bytes
                case Step():
                    self._step(event)
                case Checkpoint():
                    path, metrics = Path(event.path), checkpoint_metrics(event)
                    self._checkpoints.append(NewCheckpoint(event.step, path, metrics))
                case Log():
                    self._log(log_event(event))
                case Done():
                    self.done = event
                case Failed():
                    self.failed = event
                case Interrupted():
                    self.interrupted = event

    def send(self) -> bool:
        """Whether all is in the store now.

        Raises LeaseLost when the job is no longer this worker's.
        """
        try:
            if self._events or self._total_steps is not None:
                self.store.queue.append(
                    self.lease, self._events, total_steps=self._total_steps, estimated_finish=self._estimated_finish
                )
                self._events, self._total_steps, self._estimated_finish = [], None, None
            while self._checkpoints:
                self.store.models.publish(self._checkpoints[0].adapter_dir)
                self.store.queue.add_checkpoint(self.lease, self._checkpoints[0], keep=self.keep_checkpoints)
                del self._checkpoints[0]
        except ServiceUnavailable:
            return False
        return True

    def _step(self, step: Step) -> None:
        if step.step <= self.last_step:
            return
        if step.step > self.last_step + 1:
            missing = f"{self.last_step + 1} to {step.step - 1}"
            self._events.append(NewEvent(f"Steps {missing} were trained, but their measures are lost", level="warn"))
        if step.step == len(self.first_steps) + 1 <= MOST_FIRST_STEPS:
            self.first_at = self.first_at or time.monotonic()
            self.first_steps.append(step)
        self.last_step = step.step
        self._events.append(step_event(step))
        if step.seconds_left is not None:
            left = step.seconds_left
            if self.verdict is not None:
                left += self.verdict.seconds(time.monotonic() - self._begun + left)
            self._estimated_finish = int(time.time() + left)

    def _log(self, event: NewEvent) -> None:
        if event.message and event.message not in self.logged:
            self.logged.add(event.message)
            self._events.append(event)
