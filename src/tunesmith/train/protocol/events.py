"""What a trainer tells the worker: events, one JSON object a line on its stdout.

`from_json` ignores lines of an unknown type and unknown fields; a known event without its fields is a TypeError.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import ClassVar, TextIO, TypeAlias

from tunesmith.jsonvalue import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class _Event:
    """An event's JSON: its type, then its fields; a measure that is absent (None) is an absent key."""

    type: ClassVar[str]

    def to_json(self) -> JsonObject:
        """The JSON object that `from_json` reads."""
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        return {"type": self.type, **{name: value for name, value in values if value is not None}}


@dataclass(frozen=True, slots=True)
class Started(_Event):
    """The rows are read: how long the run is, and where it goes on from."""

    type: ClassVar[str] = "started"
    total_steps: int
    steps_per_epoch: int | None = None
    examples: int | None = None
    tokens_per_epoch: int | None = None
    learned_tokens_per_epoch: int | None = None
    resumed_from_step: int = 0
    element_bytes: int | None = None  # of the base's weights and its activations

    @classmethod
    def from_json(cls, line: JsonObject) -> "Started":
        """Raises TypeError when a field is missing or of another type."""
        return cls(
            total_steps=_integer(line, "total_steps"),
            steps_per_epoch=_maybe_integer(line, "steps_per_epoch"),
            examples=_maybe_integer(line, "examples"),
            tokens_per_epoch=_maybe_integer(line, "tokens_per_epoch"),
            learned_tokens_per_epoch=_maybe_integer(line, "learned_tokens_per_epoch"),
            resumed_from_step=_maybe_integer(line, "resumed_from_step") or 0,
            element_bytes=_maybe_integer(line, "element_bytes"),
        )


@dataclass(frozen=True, slots=True)
class Step(_Event):
    """The measures of one optimizer step; those that were not taken are None."""

    type: ClassVar[str] = "step"
    step: int
    total_steps: int
    epoch: int | None
    train_loss: float
    train_mean_token_accuracy: float
    learning_rate: float | None = None
    grad_norm: float | None = None  # before clipping
    tokens_per_second: float | None = None
    computed_tokens: int | None = None  # distinct tokens that went through the model
    share_of_peak: float | None = None  # of the machine's FLOP/s in large matrix products
    trained_tokens: int | None = None  # since the run began
    valid_loss: float | None = None  # on a sample
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None
    peak_memory_bytes: int | None = None
    seconds_left: float | None = None

    @classmethod
    def from_json(cls, line: JsonObject) -> "Step":
        """Raises TypeError when a field is missing or of another type."""
        return cls(
            step=_integer(line, "step"),
            total_steps=_integer(line, "total_steps"),
            epoch=_maybe_integer(line, "epoch"),
            train_loss=_number(line, "train_loss"),
            train_mean_token_accuracy=_number(line, "train_mean_token_accuracy"),
            learning_rate=_maybe_number(line, "learning_rate"),
            grad_norm=_maybe_number(line, "grad_norm"),
            tokens_per_second=_maybe_number(line, "tokens_per_second"),
            computed_tokens=_maybe_integer(line, "computed_tokens"),
            share_of_peak=_maybe_number(line, "share_of_peak"),
            trained_tokens=_maybe_integer(line, "trained_tokens"),
            valid_loss=_maybe_number(line, "valid_loss"),
            valid_mean_token_accuracy=_maybe_number(line, "valid_mean_token_accuracy"),
            full_valid_loss=_maybe_number(line, "full_valid_loss"),
            full_valid_mean_token_accuracy=_maybe_number(line, "full_valid_mean_token_accuracy"),
            peak_memory_bytes=_maybe_integer(line, "peak_memory_bytes"),
            seconds_left=_maybe_number(line, "seconds_left"),
        )


@dataclass(frozen=True, slots=True)
class Checkpoint(_Event):
    """A tuned model was written to `path` at the end of an epoch."""

    type: ClassVar[str] = "checkpoint"
    step: int
    epoch: int | None
    path: str
    metrics: JsonObject = field(default_factory=dict)  # the step's losses and accuracies

    @classmethod
    def from_json(cls, line: JsonObject) -> "Checkpoint":
        """Raises TypeError when a field is missing or of another type."""
        metrics = line.get("metrics")
        return cls(
            step=_integer(line, "step"),
            epoch=_maybe_integer(line, "epoch"),
            path=_text(line, "path"),
            metrics=metrics if isinstance(metrics, dict) else {},
        )


@dataclass(frozen=True, slots=True)
class Log(_Event):
    """A sentence to the job's owner. `level` is info, warn or error."""

    type: ClassVar[str] = "log"
    level: str
    message: str

    @classmethod
    def from_json(cls, line: JsonObject) -> "Log":
        """Takes what there is: a log line never fails a job."""
        return cls(str(line.get("level")), str(line.get("message", "")))


@dataclass(frozen=True, slots=True)
class Done(_Event):
    """The run has ended well; the tuned model is in `path`."""

    type: ClassVar[str] = "done"
    steps: int
    trained_tokens: int
    path: str

    @classmethod
    def from_json(cls, line: JsonObject) -> "Done":
        """Raises TypeError when a field is missing or of another type."""
        return cls(_integer(line, "steps"), _integer(line, "trained_tokens"), _text(line, "path"))


@dataclass(frozen=True, slots=True)
class Failed(_Event):
    """The run has failed. `code` and `param` are those of OpenAI's error object."""

    type: ClassVar[str] = "failed"
    code: str
    message: str
    param: str | None = None

    def to_json(self) -> JsonObject:
        """All three fields, also where `param` is null."""
        return {"type": self.type, "code": self.code, "message": self.message, "param": self.param}

    @classmethod
    def from_json(cls, line: JsonObject) -> "Failed":
        """Takes what there is: the job fails in any case."""
        param = line.get("param")
        return cls(str(line.get("code")), str(line.get("message")), None if param is None else str(param))


@dataclass(frozen=True, slots=True)
class Interrupted(_Event):
    """The trainer is gone and did not say why; its launcher does.

    `cause`: outside (a node was lost), memory (its machine had too little), crash, setup (it could not be started
    there; another time it may be).
    """

    type: ClassVar[str] = "interrupted"
    cause: str
    reason: str

    @classmethod
    def from_json(cls, line: JsonObject) -> "Interrupted":
        """Takes what there is: a cause that is not known counts as outside."""
        return cls(str(line.get("cause", "outside")), str(line.get("reason", "The trainer is gone")))


Event: TypeAlias = Started | Step | Checkpoint | Log | Done | Failed | Interrupted
Listener: TypeAlias = Callable[[Event], None]  # where events go: a pipe in a job, a list in a test
BUFFER_BYTES = 1 << 20  # an event fits in: what the disk refuses stays in the buffer, and is flushed again
SETUP = "setup"  # a cause of `Interrupted`
KINDS = (Started, Step, Checkpoint, Log, Done, Failed, Interrupted)
EVENTS: dict[str, type[Event]] = {kind.type: kind for kind in KINDS}


def from_json(line: JsonObject) -> Event | None:
    """The event of a line; None where its type is unknown.

    Raises TypeError naming a field that is wrong.
    """
    kind = EVENTS.get(str(line.get("type")))
    return None if kind is None else kind.from_json(line)


def events_of(lines: Iterable[JsonObject]) -> Iterator[Event]:
    """The events of lines, without those of an unknown type."""
    return (event for line in lines if (event := from_json(line)) is not None)


def parse_events(text: str) -> list[Event]:
    """The events in all that a trainer wrote."""
    return [*events_of(json.loads(line) for line in text.splitlines())]


class EventWriter:
    """Writes events as lines, each flushed: a killed trainer leaves complete lines.

    `patiently` calls what flushes the stream, again where the disk is full.
    """

    def __init__(self, stream: TextIO, patiently: Callable[[Callable[[], None]], None] = lambda flush: flush()) -> None:
        self._stream = stream
        self._patiently = patiently

    def __call__(self, event: Event) -> None:
        """Writes one event and flushes it."""
        self._stream.write(json.dumps(event.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
        self._patiently(self._stream.flush)


def claim_stdout() -> TextIO:
    """Returns the real stdout, for events alone.

    What any library prints from here on goes to stderr.
    """
    stream = os.fdopen(os.dup(1), "w", BUFFER_BYTES, encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stream


def _integer(line: JsonObject, key: str) -> int:
    value = line.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(line, key, value, "whole number")
    return value


def _maybe_integer(line: JsonObject, key: str) -> int | None:
    return None if line.get(key) is None else _integer(line, key)


def _number(line: JsonObject, key: str) -> float:
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(line, key, value, "number")
    return value


def _maybe_number(line: JsonObject, key: str) -> float | None:
    return None if line.get(key) is None else _number(line, key)


def _text(line: JsonObject, key: str) -> str:
    value = line.get(key)
    if not isinstance(value, str):
        raise _wrong(line, key, value, "text")
    return value


def _wrong(line: JsonObject, key: str, value: JsonValue, wanted: str) -> TypeError:
    return TypeError(f"The trainer's {line.get('type')} line has {key}={value!r}, which is no {wanted}.")
