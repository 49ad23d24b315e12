"""The training loop: batches in, events out.

for each batch: gradient -> optimizer step -> validation where due -> report -> checkpoint where due
"""

import math
import time
from contextlib import closing
from dataclasses import dataclass, field, replace

import torch

from tunesmith.errors import TrainerError
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import AdapterManifest
from tunesmith.train.adapters.checkpoint import (
    Journal,
    Progress,
    RunFiles,
    Trained,
    save_checkpoint,
    save_final,
    save_progress,
)
from tunesmith.train.core.device import peak_memory
from tunesmith.train.core.examples import Batch, Example, Sampler
from tunesmith.train.core.interrupt import Interrupt, Stopped
from tunesmith.train.core.optimizer import AdamW, learning_rate
from tunesmith.train.objective import Objective, Outcome
from tunesmith.train.paths.flops import Work
from tunesmith.train.protocol.events import Listener, event
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.validation import sample

EPOCH_SAVE_SECONDS = 20.0  # progress is also saved at epoch ends, but not more often than this
LONG_SAVE_SECONDS = 1.0  # an adapter is saved in less, all weights of a base may take a minute,
SAVE_SHARE = 0.05  # and then saving may take this share of the time
VALIDATIONS = 20  # on a sample, over the whole run, where the spec does not say how often


class NonFiniteLoss(TrainerError):
    """The loss is no number any more."""


@dataclass(slots=True)
class Run:
    """A run being trained. `step` and `trained_tokens` are those of the last finished step."""

    spec: TrainSpec
    sampler: Sampler
    validation: list[Example]
    adapter: Trained
    optimizer: AdamW
    objective: Objective
    manifest: AdapterManifest
    fingerprint: str
    files: RunFiles
    journal: Journal
    emit: Listener
    interrupt: Interrupt
    epoch_tokens: int  # trained in each epoch
    work: Work
    peak_flops: float  # per second, of large matrix products on this machine
    step: int = 0
    trained_tokens: int = 0
    unreported: JsonObject = field(default_factory=dict)  # measures of the last step, if it was not reported yet
    save_seconds: float = 0.0  # that the last save took
    _saved: float = field(default_factory=time.monotonic)
    _tokens_here: int = 0  # trained by this process
    _seconds_here: float = 0.0

    def train(self) -> None:
        """All steps that remain. Raises NonFiniteLoss, and Stopped once the progress is saved."""
        with closing(self.journal):
            self._train()

    def _train(self) -> None:
        try:
            if self.unreported:  # stopped or killed between an update and its report
                self._finish_step(self.unreported, last_of_epoch=self.step % self.sampler.steps_per_epoch == 0)
            for batch in self.sampler.batches(after_step=self.step):
                self._update(batch)
                self._finish_step(self.unreported, batch.last_of_epoch)
        except Stopped:
            self.save()
            raise
        save_final(self.files, self.adapter, replace(self.manifest, step=self.step), self.sampler.answers)
        self.save()
        path = str(self.files.adapter.absolute())
        self.emit(event("done", steps=self.step, trained_tokens=self.trained_tokens, path=path))

    def _update(self, batch: Batch) -> None:
        """One optimizer step; its measures become `unreported`."""
        began = time.monotonic()
        spec, total_steps = self.spec, self.sampler.total_steps
        rate = learning_rate(batch.step, total_steps, spec.learning_rate, spec.warmup_ratio, spec.schedule)
        with self.interrupt.interruptible():
            outcome, norm = self._gradient(batch)
        self.optimizer.step(rate, norm, spec.max_grad_norm)
        self.step, self.trained_tokens = batch.step, self.trained_tokens + batch.tokens
        seconds = time.monotonic() - began
        self._tokens_here += batch.tokens
        self._seconds_here += seconds
        self.unreported = {
            "step": batch.step,
            "total_steps": total_steps,
            "epoch": batch.epoch,
            "train_loss": outcome.loss,
            "train_mean_token_accuracy": outcome.accuracy,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens_per_second": batch.tokens / seconds,
            "computed_tokens": outcome.computed.tokens,
            "share_of_peak": self.work.flops(outcome.computed) / seconds / self.peak_flops,
            "trained_tokens": self.trained_tokens,
        }

    def _finish_step(self, measures: JsonObject, last_of_epoch: bool) -> None:
        """Validation where due, the report, a checkpoint where due."""
        began = time.monotonic()
        with self.interrupt.interruptible():
            quality = self._validate(last_of_epoch)
        self._seconds_here += time.monotonic() - began
        report = event(
            "step", **measures, **quality, peak_memory_bytes=peak_memory(), seconds_left=self._seconds_left()
        )
        self._report(report)
        self.unreported = {}
        if last_of_epoch:
            self._checkpoint(report)
        self._save_when_due(last_of_epoch)

    def _gradient(self, batch: Batch) -> tuple[Outcome, float]:
        self.adapter.grad.zero_()
        torch.manual_seed(self.spec.seed * 1_000_003 + batch.step)  # dropout: a function of seed and step
        outcome = self.objective.backward(batch)
        norm = self.optimizer.norm()
        if not math.isfinite(outcome.loss) or not math.isfinite(norm):
            lines = ", ".join(str(example.line) for example in batch.examples)
            raise NonFiniteLoss(
                f"The loss of step {batch.step} is {outcome.loss}, the norm of its gradient {norm}. The step's rows "
                f"are lines {lines} of the training file. Lower learning_rate_multiplier, or look at these rows.",
                code="non_finite_loss",
            )
        return outcome, norm

    def _validate(self, last_of_epoch: bool) -> JsonObject:
        found: JsonObject = {}
        if not self.validation:
            return found
        every = self.spec.validate_every or max(1, self.sampler.total_steps // VALIDATIONS)
        if self.step % every == 0 or self.step == 1:
            part = self.objective.quality(sample(self.validation, self.spec.seed))
            found |= {"valid_loss": part.loss, "valid_mean_token_accuracy": part.accuracy}
        if last_of_epoch:
            full = self.objective.quality(self.validation)
            found |= {"full_valid_loss": full.loss, "full_valid_mean_token_accuracy": full.accuracy}
        return found

    def _seconds_left(self) -> float | None:
        if not self._tokens_here:
            return None
        per_token = self._seconds_here / self._tokens_here
        return per_token * (self.epoch_tokens * self.spec.n_epochs - self.trained_tokens)

    def _report(self, report: JsonObject) -> None:
        self.journal.add(report)
        self.emit(report)

    def _checkpoint(self, report: JsonObject) -> None:
        manifest = replace(self.manifest, step=self.step)
        path = save_checkpoint(self.files, self.adapter, manifest, self.sampler.answers, self.spec.keep_checkpoints)
        metrics: JsonObject = {name: report[name] for name in METRICS if name in report}
        where = str(path.absolute())
        self._report(event("checkpoint", step=self.step, epoch=report["epoch"], path=where, metrics=metrics))

    def _save_when_due(self, last_of_epoch: bool) -> None:
        age = time.monotonic() - self._saved
        wanted = self.spec.checkpoint_seconds
        least = self.save_seconds / SAVE_SHARE if self.save_seconds > LONG_SAVE_SECONDS else 0.0
        if age >= least and ((wanted and age >= wanted) or (last_of_epoch and age >= EPOCH_SAVE_SECONDS)):
            self.save()

    def save(self) -> None:
        """The progress after the last finished step, durably."""
        if not self.step:
            return
        began = time.monotonic()
        self.journal.sync()
        tensors = {"adapter": self.adapter.flat.detach(), **self.optimizer.state()}
        state = Progress(self.step, self.trained_tokens, self.unreported, self.fingerprint, tensors)
        save_progress(self.files, state)
        self._saved = time.monotonic()
        self.save_seconds = self._saved - began


METRICS = (
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)
