"""Where the files of a job are."""

from dataclasses import dataclass
from pathlib import Path

KEPT = "rows-"  # begins the name of a job's own link to a file that is kept in object storage


@dataclass(frozen=True, slots=True)
class JobFiles:
    """Paths of one job's files; `root` is `settings.paths.jobs`.

    The trainer owns `output`; everything else is the worker's, one set per attempt.
    """

    root: Path
    job_id: str

    @property
    def directory(self) -> Path:
        """Everything that belongs to the job."""
        return self.root / self.job_id

    @property
    def output(self) -> Path:
        """Adapters, and what the trainer needs to resume; shared by all attempts."""
        return self.directory / "output"

    @property
    def lock(self) -> Path:
        """Held by a running trainer."""
        return self.directory / "trainer.lock"

    def spec(self, attempt: int) -> Path:
        """What the trainer of this attempt is told to do."""
        return self.directory / f"attempt-{attempt}.spec.json"

    def events(self, attempt: int) -> Path:
        """The trainer's stdout: one JSON object a line."""
        return self.directory / f"attempt-{attempt}.events.jsonl"

    def log(self, attempt: int) -> Path:
        """The trainer's stderr."""
        return self.directory / f"attempt-{attempt}.log"

    @property
    def trained(self) -> Path:
        """The part of the training file that is trained on, where a share is held out."""
        return self.directory / "trained.jsonl"

    @property
    def held_out(self) -> Path:
        """The other part."""
        return self.directory / "held-out.jsonl"

    @property
    def answers(self) -> Path:
        """The answers of the evaluation so far; shared by all attempts."""
        return self.directory / "evaluation.answers.jsonl"

    @property
    def evaluation(self) -> Path:
        """What the evaluation found."""
        return self.directory / "evaluation.json"

    @property
    def passing(self) -> tuple[Path, ...]:
        """Copies of the user's rows and answers, which end with the job."""
        links = self.directory.glob(f"{KEPT}*") if self.directory.is_dir() else ()
        return self.trained, self.held_out, self.answers, self.evaluation, *links

    def evaluation_spec(self, attempt: int) -> Path:
        """What the evaluating process of this attempt is told to do."""
        return self.directory / f"attempt-{attempt}.evaluation.spec.json"

    def evaluation_events(self, attempt: int) -> Path:
        """The evaluating process's stdout."""
        return self.directory / f"attempt-{attempt}.evaluation.events.jsonl"

    def evaluation_log(self, attempt: int) -> Path:
        """The evaluating process's stderr."""
        return self.directory / f"attempt-{attempt}.evaluation.log"
