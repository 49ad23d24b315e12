"""A job as one line of a list."""

from dataclasses import dataclass
from typing import get_args

from tunesmith.evals.comparison import Decision
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import JobRow, JobStatus
from tunesmith.web.views.job_numbers import Numbers, job_numbers
from tunesmith.web.views.sparkline import Sparkline
from tunesmith.worker.evaluation import is_wanted

SHORT_ID = 13
DECISIONS: tuple[Decision, ...] = get_args(Decision)


@dataclass(frozen=True, slots=True)
class JobLine:
    """What a list shows of a job; `spark` is its loss, where the list draws it."""

    id: str
    title: str
    base: str
    state: str
    created_at: int
    numbers: Numbers
    model: str | None
    decision: str | None
    sentence: str | None
    fault: str | None
    spark: Sparkline | None = None


def job_line(row: JobRow, metrics: JsonObject | None = None, spark: Sparkline | None = None) -> JobLine:
    """The line of a job, whose newest step measured `metrics`."""
    found = evaluation_of(row)
    return JobLine(
        id=row.id,
        title=title_of(row),
        base=row.model,
        state=state_of(row),
        created_at=row.created_at,
        numbers=job_numbers(row, metrics or {}),
        model=row.fine_tuned_model,
        decision=decision_of(found),
        sentence=None if found is None else str(found.get("sentence")),
        fault=None if row.error is None else str(row.error.get("message")),
        spark=spark,
    )


def title_of(row: JobRow) -> str:
    """What a job is called: its suffix, else the beginning of its id."""
    return row.user_provided_suffix or f"{row.id[:SHORT_ID]}…"


def state_of(row: JobRow) -> str:
    """The status, or `paused` or `comparing`, for which OpenAI's words have none."""
    if row.paused and not row.status.finished:
        return "paused"
    return "comparing" if is_comparing(row) else row.status.value


def is_comparing(row: JobRow) -> bool:
    """Whether all is trained and the verdict is being made."""
    trained = row.total_steps is not None and 0 < row.total_steps <= row.last_step
    return row.status is JobStatus.RUNNING and trained and is_wanted(row)


def decision_of(evaluation: JsonObject | None) -> str | None:
    """What the verdict comes to; None where nothing was compared."""
    found = None if evaluation is None else evaluation.get("verdict")
    return found if isinstance(found, str) and found in DECISIONS else None


def evaluation_of(row: JobRow) -> JsonObject | None:
    """What the job shows of its evaluation; None without one."""
    found = row.options.get("evaluation")
    return found if isinstance(found, dict) else None
