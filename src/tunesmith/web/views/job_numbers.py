"""The numbers of a job's progress, as its page and its live stream both show them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store import JobRow, JobStatus
from tunesmith.web.formats import number, percent, span


@dataclass(frozen=True, slots=True)
class Numbers:
    """How far a job is and what its last step measured; None for what is not known."""

    step: int
    total: int | None
    loss: float | None
    accuracy: float | None
    valid_loss: float | None
    epoch: int | None  # from 1
    epochs: int | None
    rate: float | None  # steps a second
    left: float | None  # seconds

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1."""
        return min(1.0, self.step / self.total) if self.total else None

    def shown(self, language: str) -> Mapping[str, str]:
        """Each as the page spells it, by the name of its place there."""
        return {
            "step": f"{self.step:,}" + (f" / {self.total:,}" if self.total else ""),
            "percent": percent(self.share),
            "loss": number(self.loss),
            "accuracy": percent(self.accuracy, 1),
            "valid_loss": number(self.valid_loss),
            "epoch": "–" if self.epoch is None else f"{self.epoch}" + (f" / {self.epochs}" if self.epochs else ""),
            "rate": "–" if self.rate is None else f"{self.rate:.3g}",
            "left": span(self.left, language),
        }


def job_numbers(job: JobRow, metrics: JsonObject, rate: float | None = None) -> Numbers:
    """The numbers of a job whose newest step measured `metrics`."""
    running = job.status is JobStatus.RUNNING
    valid = _float(metrics.get("full_valid_loss"))
    return Numbers(
        step=job.last_step,
        total=job.total_steps,
        loss=_float(metrics.get("train_loss")),
        accuracy=_float(metrics.get("train_mean_token_accuracy")),
        valid_loss=_float(metrics.get("valid_loss")) if valid is None else valid,
        epoch=_whole(metrics.get("epoch")),
        epochs=_whole(job.hyperparameters.get("n_epochs")),
        rate=rate if running else None,
        left=_left(job) if running else None,
    )


def _left(job: JobRow) -> float | None:
    """Seconds to the estimated finish; None without one, and when it has passed."""
    left = (job.estimated_finish or 0) - time.time()
    return left if left > 0 else None


def _float(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
