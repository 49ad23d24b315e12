"""How long the verdict at the end of a job takes.

Both models answer rows, and general questions. It may take a share of the job's time; but a few questions of each part
are asked whatever that takes.
"""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.estimate.speed import benchmark_path
from tunesmith.system.checked_json import read_checked, write_checked

TIME_SHARE = 0.15  # of the job's time, training and evaluation together
MOST_ROWS = 200
GENERAL_QUESTIONS = 215  # lines of evals/general.jsonl
LEAST = 24  # questions of each part that are asked whatever time they take …
GRACE_SECONDS = 120.0  # … but for this much beyond the job's share
ROWS_SHARE = 0.7  # of the time; the rest is for the general questions
ENOUGH_ROWS = 20  # fewer tell only large differences
LEAST_MEASURED = 8  # questions from which a pace is told


@dataclass(frozen=True, slots=True)
class VerdictPlan:
    """The rows of a verdict.

    `held_out`: how many of them are taken out of the training file. `pace`: seconds for a question, as the latest
    verdict on this base took; None where there was none.
    """

    rows: int
    held_out: int = 0
    pace: float | None = None

    @property
    def few_warning(self) -> str | None:
        """The warning about too few rows, or None."""
        if self.rows >= ENOUGH_ROWS:
            return None
        some = f"{self.rows} rows" if self.rows != 1 else "1 row"
        return (
            f"The verdict is to be made on {some}: that is too few to tell whether the tuned model is better. Have at "
            f"least {ENOUGH_ROWS}: hold out more rows, or give a validation file."
        )

    def seconds(self, trained: float) -> float:
        """How long it takes after so many seconds of training."""
        share = trained * TIME_SHARE / (1 - TIME_SHARE)
        if self.pace is None:
            return share
        rows = _part(min(self.rows, MOST_ROWS), self.pace, ROWS_SHARE * share)
        return rows + _part(GENERAL_QUESTIONS, self.pace, share - rows)


def _part(questions: int, pace: float, until: float) -> float:
    """Seconds for one part of the questions, of which no more are begun after `until`."""
    least = min(min(questions, LEAST) * pace, max(0.0, until + GRACE_SECONDS))
    return min(questions * pace, max(until, least))


def record_pace(folder: Path, base_name: str, questions: int, seconds: float) -> None:
    """Keeps how long a verdict's questions took; too few say nothing."""
    if questions >= LEAST_MEASURED:
        write_checked(_path(folder, base_name), {"seconds_per_question": seconds / questions})


def read_pace(folder: Path, base_name: str) -> float | None:
    """Seconds for a question in the latest verdict on this base, or None."""
    kept = read_checked(_path(folder, base_name))
    pace = kept.get("seconds_per_question") if isinstance(kept, dict) else None
    return float(pace) if isinstance(pace, int | float) and pace > 0 else None


def _path(folder: Path, base_name: str) -> Path:
    return benchmark_path(folder, base_name, "verdict")
