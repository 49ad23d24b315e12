"""The training loop: batches in, events out.

for each batch: gradient -> optimizer step -> validation where due -> report -> checkpoint where due
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from tunesmith.errors import TrainerError
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import AdapterManifest
from tunesmith.train.adapters.checkpoint import (
    Journal,
    Optimizer,
    Reported,
    RunFiles,
    TrainableParameters,
    save_checkpoint,
    save_final,
)
from tunesmith.train.adapters.progress import Progress, save_progress
from tunesmith.train.core.device import peak_memory
from tunesmith.train.core.disk_room import LITTLE, DiskRoom
from tunesmith.train.core.examples import Batch, Example, Sampler
from tunesmith.train.core.interrupt import Interrupt, Stopped
from tunesmith.train.core.optimizer import learning_rate
from tunesmith.train.objective import BatchResult, Objective
from tunesmith.train.paths.flops import Work
from tunesmith.train.paths.scoring import Computed
from tunesmith.train.protocol.events import Checkpoint, Done, Step
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import ONE_RANK, Ranks
from tunesmith.train.retry import Result, once, retried
from tunesmith.train.validation import Quality, sample

EPOCH_SAVE_SECONDS = 20.0  # progress is saved at epoch ends too, but not more often than this
LONG_SAVE_SECONDS = 1.0  # saving an adapter takes less, saving all weights up to a minute;
SAVE_SHARE = 0.05  # longer saves may take this share of the time
VALIDATIONS = 20  # on a sample, over the whole run, where the spec does not say how often


class NonFiniteLoss(TrainerError):
    """The loss or its gradient is not a finite number."""


@dataclass(slots=True)
class Run:
    """A run being trained.

    `step` and `trained_tokens` are those of the last finished step.
    """

    spec: TrainSpec
    sampler: Sampler
    validation: list[Example]
    trainable: TrainableParameters
    optimizer: Optimizer
    objective: Objective
    manifest: AdapterManifest
    fingerprint: str
    files: RunFiles
    journal: Journal
    room: DiskRoom
    interrupt: Interrupt
    work: Work
    peak_flops: float  # per second, of large matrix products on the machines of all ranks
    ranks: Ranks = ONE_RANK
    sharded: bool = False  # all ranks compute a pass together, of what is trained or of the frozen base
    step: int = 0
    trained_tokens: int = 0
    unreported: Step | None = None  # measures of the last step, if it was not reported yet
    save_seconds: float = 0.0  # that the last save took
    saved_step: int = 0  # whose progress was saved last
    _stop_agreed: bool = False  # sharded values: the ranks have finished the same step, and end
    _saved: float = field(default_factory=time.monotonic)
    _epoch_tokens: int = field(init=False)
    _tokens_here: int = 0  # trained by this process
    _seconds_here: float = 0.0

    def __post_init__(self) -> None:
        self._epoch_tokens = sum(example.tokens for example in self.sampler.examples)

    def train(self) -> None:
        """Trains all steps that remain.

        Raises NonFiniteLoss, and Stopped once the progress is saved.
        """
        with closing(self.journal):
            self._train()

    def _train(self) -> None:
        try:
            if self.unreported is not None:  # stopped or killed between an update and its report
                self._finish_step(self.unreported, last_of_epoch=self.step % self.sampler.steps_per_epoch == 0)
            for batch in self.sampler.batches(after_step=self.step):
                self._finish_step(self._update(batch), batch.last_of_epoch)
        except Stopped as stopped:
            if self._stop_agreed or not self.trainable.sharded:
                self.save()
            else:  # the values of a rank that is gone are gone too
                last = self.saved_step
                stopped.kept = f"the progress after step {last} is kept" if last else "only the run's start is left"
            raise
        if self._keeps:
            self._finish()

    @property
    def _keeps(self) -> bool:
        """Whether this rank has a part in what is written, by rank 0."""
        return self.ranks.leads or self.trainable.sharded

    def _finish(self) -> None:
        self._write_model()
        self.save()  # gathered too, where weights are shared out: the model is gone by now
        if not self.ranks.leads:
            return
        path = str(self.files.adapter.absolute())
        self.room.emit(Done(self.step, self.trained_tokens, path))

    def _write_model(self) -> None:
        manifest, model = replace(self.manifest, step=self.step), self.trainable.gathered()
        if self.ranks.leads:
            self.room.write(
                "the tuned model",
                self.trainable.nbytes,
                lambda: save_final(self.files, model, manifest, self.sampler.answers),
            )

    def _update(self, batch: Batch) -> Step:
        """One optimizer step; its measures are returned and become `unreported`."""
        began = time.monotonic()
        options, peak = self.spec.options, self.spec.learning_rate
        rate = learning_rate(batch.step, self.sampler.total_steps, peak, options.warmup_ratio, options.schedule)
        with self._interruptible():
            result, norm = self._gradient(batch)
        self.optimizer.step(rate, norm, options.max_grad_norm)
        self.step, self.trained_tokens = batch.step, self.trained_tokens + batch.tokens
        seconds = time.monotonic() - began
        self._tokens_here += batch.tokens
        self._seconds_here += seconds
        self.unreported = self._measures(batch, result, rate, norm, seconds)
        if self._stop_agreed:
            raise Stopped
        return self.unreported

    def _interruptible(self) -> AbstractContextManager[None]:
        """Sharded values are saved by all ranks after the same step, so a signal waits for its end."""
        return self.interrupt.interruptible(gently=self.trainable.sharded)

    def _measures(self, batch: Batch, result: BatchResult, rate: float, norm: float, seconds: float) -> Step:
        return Step(
            step=batch.step,
            total_steps=self.sampler.total_steps,
            train_loss=result.loss,
            train_mean_token_accuracy=result.accuracy,
            epoch=batch.epoch,
            learning_rate=rate,
            grad_norm=norm,
            tokens_per_second=batch.tokens / seconds,
            computed_tokens=result.computed.tokens,
            share_of_peak=self.work.flops(result.computed) / seconds / self.peak_flops,
            trained_tokens=self.trained_tokens,
        )

    def _finish_step(self, measures: Step, last_of_epoch: bool) -> None:
        """Validation where due, the report, a checkpoint where due."""
        began = time.monotonic()
        with self._interruptible():
            sampled, full = self._validate(last_of_epoch)
            if last_of_epoch:
                self.trainable.check_same(self.ranks, self.step)
        self._seconds_here += time.monotonic() - began
        report = self._reported(measures, sampled, full)
        self.unreported = None  # before what is saved below
        if self._keeps:
            if last_of_epoch:
                self._checkpoint(report)
            self._save_when_due(last_of_epoch)

    def _reported(self, measures: Step, sampled: Quality | None, full: Quality | None) -> Step:
        report = replace(
            measures,
            valid_loss=sampled.loss if sampled else None,
            valid_mean_token_accuracy=sampled.accuracy if sampled else None,
            full_valid_loss=full.loss if full else None,
            full_valid_mean_token_accuracy=full.accuracy if full else None,
            peak_memory_bytes=peak_memory(self.trainable.device),
            seconds_left=self._seconds_left(),
        )
        if self.ranks.leads:
            self._report(report)
        return report

    def _gradient(self, batch: Batch) -> tuple[BatchResult, float]:
        share = self._retried(partial(self._backward, batch), batch.examples, f"Step {batch.step}")
        self.trainable.add_up(self.ranks)
        result, norm = self._whole(share, self.optimizer.norm())
        if not math.isfinite(result.loss) or not math.isfinite(norm):
            lines = ", ".join(str(example.line) for example in batch.examples)
            raise NonFiniteLoss(
                f"The loss of step {batch.step} is {result.loss}, the norm of its gradient {norm}. The step's rows "
                f"are lines {lines} of the training file. Lower learning_rate_multiplier, or look at these rows.",
                code="non_finite_loss",
            )
        return result, norm

    def _backward(self, batch: Batch, objective: Objective) -> BatchResult:
        """This rank's share of the gradient, from the step's start: with the same numbers, however often."""
        self.trainable.zero_grad()
        other_rows = self.ranks.place.rank << 40
        torch.manual_seed(self.spec.seed * 1_000_003 + batch.step + other_rows)  # dropout: a function of seed and step
        return objective.backward(batch)

    def _whole(self, share: BatchResult, norm: float) -> tuple[BatchResult, float]:
        """The result of all ranks, and rank 0's `norm`: of other numbers of threads, sums may be rounded otherwise."""
        computed = share.computed
        sums = [share.loss, share.right, share.counted, computed.tokens, computed.learned, computed.visible]
        asked = float(self.trainable.sharded and self.interrupt.asked)
        *sums, norm, asked = self.ranks.totals([*sums, norm if self.ranks.leads else 0.0, asked])
        self._stop_agreed = asked > 0
        loss, *counts = sums
        right, counted, tokens, learned, visible = map(int, counts)
        return BatchResult(loss, right, counted, Computed(tokens, learned, visible)), norm

    def _retried(self, work: Callable[[Objective], Result], examples: Sequence[Example], what: str) -> Result:
        """Of this rank alone; the others wait for its sums.

        Sharded, it is computed once: the others are in the midst of the same pass.
        """
        if self.sharded:
            return once(self.objective, work, examples, what)
        self.objective, result = retried(self.objective, work, examples, what, self.room.emit)
        return result

    def _quality(self, examples: Sequence[Example]) -> Quality:
        what = f"The validation after step {self.step}"
        return self._retried(lambda objective: objective.quality(examples), examples, what)

    def _validate(self, last_of_epoch: bool) -> tuple[Quality | None, Quality | None]:
        """On a sample and on all rows, each where it is due."""
        if not self.validation:
            return None, None
        sampled = full = None
        every = self.spec.validate_every or max(1, self.sampler.total_steps // VALIDATIONS)
        if self.step % every == 0 or self.step == 1:
            sampled = self._quality(sample(self.validation, self.spec.seed))
        if last_of_epoch:
            full = self._quality(self.validation)
        return sampled, full

    def _seconds_left(self) -> float | None:
        if not self._tokens_here:
            return None
        per_token = self._seconds_here / self._tokens_here
        return per_token * (self._epoch_tokens * self.spec.n_epochs - self.trained_tokens)

    def _report(self, report: Reported) -> None:
        self.journal.add(report)
        self.room.write(f"the report of step {report.step}", LITTLE, self.journal.flush)
        self.room.emit(report)

    def _checkpoint(self, report: Step) -> None:
        manifest, model = replace(self.manifest, step=self.step), self.trainable.gathered()
        if not self.ranks.leads:
            return
        path = self.room.write(
            f"the checkpoint of step {self.step}",
            self.trainable.nbytes,
            lambda: save_checkpoint(self.files, model, manifest, self.sampler.answers, self.spec.keep_checkpoints),
        )
        measured = report.to_json()
        metrics: JsonObject = {name: measured[name] for name in METRICS if name in measured}
        self._report(Checkpoint(self.step, report.epoch, str(path.absolute()), metrics))

    def _save_when_due(self, last_of_epoch: bool) -> None:
        age = time.monotonic() - self._saved
        wanted = self.spec.checkpoint_seconds
        least = self.save_seconds / SAVE_SHARE if self.save_seconds > LONG_SAVE_SECONDS else 0.0
        due = age >= least and ((wanted and age >= wanted) or (last_of_epoch and age >= EPOCH_SAVE_SECONDS))
        if self.trainable.sharded:
            due = bool(self.ranks.of_first(bool(due)))  # one clock for all
        if due:
            self.save()

    def save(self) -> None:
        """Saves the progress after the last finished step, durably.

        Of sharded values all ranks have to call it.
        """
        if not self.step or not self._keeps:
            return
        values, state = self.trainable.values(), self.optimizer.state()
        self.saved_step = self.step
        if self.trainable.sharded:
            self.ranks.of_all(None)  # nobody leaves before rank 0 has all
        if values is None or not self.ranks.leads:
            return
        tensors = {"adapter": values, **state}
        progress = Progress(self.step, self.trained_tokens, self.unreported, self.fingerprint, tensors)
        needed = sum(tensor.nbytes for tensor in tensors.values())
        self.room.write(f"the progress after step {self.step}", needed, lambda: self._save(progress))

    def _save(self, state: Progress) -> None:
        began = time.monotonic()
        self.journal.sync()
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
