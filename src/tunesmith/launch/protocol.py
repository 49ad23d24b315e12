"""What a worker needs of whatever starts its trainers.

That is a child process (`launch.child`), or an actor on a Ray cluster (`launch.ray`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunesmith.settings import Resources


@dataclass(frozen=True, slots=True)
class Start:
    """What a trainer is started with.

    The worker chooses the files, one set per attempt.
    """

    spec: Path
    events: Path  # its stdout
    log: Path  # its stderr
    lock: Path
    nice: int = 0
    idle: bool = False  # takes only the processor time that others leave (Linux)
    environment: Mapping[str, str] | None = None  # None: this process's own
    resources: Resources | None = None  # of a cluster's node; a child process takes what there is


class Trainer(Protocol):
    """A started trainer.

    Its events are read from `Start.events`, so that they can be read after its end too.
    """

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the trainer runs."""
        ...

    def stop(self) -> None:
        """Asks it to end, waits, then kills it. It has ended when this returns."""
        ...


class Launcher(Protocol):
    """Starts trainers."""

    def start(self, start: Start) -> Trainer:
        """Starts a trainer and returns at once."""
        ...
