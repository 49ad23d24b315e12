"""Where the files of one job lie."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class JobFiles:
    """`root` is `settings.paths.jobs`. The trainer owns `output`; the rest is the worker's, one set per attempt."""

    root: Path
    job_id: str

    @property
    def directory(self) -> Path:
        return self.root / self.job_id

    @property
    def output(self) -> Path:
        """Adapters, and what the trainer needs to resume: the same directory for every attempt."""
        return self.directory / "output"

    @property
    def lock(self) -> Path:
        """Held by a living trainer."""
        return self.directory / "trainer.lock"

    def spec(self, attempt: int) -> Path:
        return self.directory / f"attempt-{attempt}.spec.json"

    def events(self, attempt: int) -> Path:
        """The trainer's stdout: one JSON object a line."""
        return self.directory / f"attempt-{attempt}.events.jsonl"

    def log(self, attempt: int) -> Path:
        """The trainer's stderr."""
        return self.directory / f"attempt-{attempt}.log"
