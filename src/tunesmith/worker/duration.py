"""How long a job may train, over all its attempts."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.errors import TrainerError
from tunesmith.store import JobFiles


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """The time that a job has trained.

    Earlier attempts are told by their files, this one by the clock. Pauses, the queue and time between attempts do not
    count.
    """

    limit: float  # seconds; 0: none
    earlier: float
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, files: JobFiles, attempt: int, limit: float) -> "TrainingTime":
        """Begins to count an attempt."""
        return cls(limit, seconds_trained(files, attempt - 1) if limit else 0.0)

    def demand(self) -> None:
        """Raises TrainerError where the job has trained longer than it may."""
        if self.limit and self.earlier + time.monotonic() - self.started > self.limit:
            raise TrainerError(
                f"The job trained for {_words(self.limit)}, the longest that this server allows (limit_job_seconds). "
                "Its checkpoints are kept. Train fewer epochs or rows, or ask the operator for a higher limit.",
                code="training_time_limit",
            )


def seconds_trained(files: JobFiles, attempts: int) -> float:
    """How long the first `attempts` attempts trained, told by their files."""
    return sum(_seconds(files.spec(one), files.events(one)) for one in range(1, attempts + 1))


def _seconds(begun: Path, last: Path) -> float:
    """Between the writing of an attempt's specification and the last line of its trainer."""
    try:
        return max(0.0, last.stat().st_mtime - begun.stat().st_mtime)
    except FileNotFoundError:
        return 0.0


def _words(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:g} seconds"
