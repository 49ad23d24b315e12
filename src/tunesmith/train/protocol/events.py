"""What the trainer tells the worker: one JSON object a line on stdout, and nothing else there."""

import json
import os
import sys
from typing import Protocol, TextIO

from tunesmith.jsonvalue import JsonObject, JsonValue


class Listener(Protocol):
    """Where events go: a pipe in a job, a list in a test."""

    def __call__(self, event: JsonObject) -> None: ...


class EventWriter:
    """Writes events as lines, each flushed, so that a killed trainer leaves whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: JsonObject) -> None:
        self._stream.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
        self._stream.flush()


def claim_stdout() -> TextIO:
    """The real stdout, for events alone: whatever a library prints from here on goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stream


def log(level: str, message: str) -> JsonObject:
    return {"type": "log", "level": level, "message": message}


def failed(code: str, message: str, param: str | None = None) -> JsonObject:
    return {"type": "failed", "code": code, "message": message, "param": param}


def event(kind: str, **values: JsonValue) -> JsonObject:
    """An event without the values that are None: an absent measure is an absent key."""
    return {"type": kind, **{name: value for name, value in values.items() if value is not None}}
