"""The estimate of a job: steps, tokens, time, memory, money at OpenAI and here.

Prices count OpenAI's tokens; time and memory count the base's own, because those are what is trained here.
"""

import math
from dataclasses import dataclass, replace

from tunesmith.check.report.file_report import Report
from tunesmith.estimate.hyperparameters import Hyperparameters, auto_epochs, resolve_hyperparameters
from tunesmith.estimate.prices import DEFAULT_PRICE, Price, answer_cost, training_cost
from tunesmith.estimate.speed import Benchmark, Workload, peak_memory, training_seconds, unpacked
from tunesmith.estimate.verdict_time import VerdictPlan
from tunesmith.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class AnswersCost:
    """What 1,000 answers of the tuned model would cost at OpenAI.

    The tokens of one are the file's mean: all that a row does not teach is its prompt. `dollars` is None where a price
    is not known.
    """

    prompt_tokens: float
    completion_tokens: float
    dollars: float | None

    def to_json(self) -> JsonObject:
        """The section `openai.answers` of an estimate."""
        return {
            "prompt_tokens": round(self.prompt_tokens, 1),
            "completion_tokens": round(self.completion_tokens, 1),
            "dollars_per_1000": self.dollars,
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will be.

    `examples` are the rows that are trained, without the `held_out` ones. `openai_*` is what OpenAI would have billed
    for them, None where that is not known. `trained_tokens` is what the job here will report. `seconds` are the whole
    job's, `verdict_seconds` those of them in which it is compared with its base.
    """

    hyperparameters: Hyperparameters
    examples: int
    steps_per_epoch: int
    total_steps: int
    openai_tokens: int
    openai_cost: float | None
    price: Price
    trained_tokens: int | None
    learned_tokens: int | None
    exact: bool
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    local_cost: float | None = None
    answers: AnswersCost | None = None
    held_out: int = 0
    verdict_seconds: float | None = None
    ranks: int = 1  # processes that train it, each of which takes `peak_memory_bytes`

    def to_json(self) -> JsonObject:
        """The estimate as `tunesmith estimate --json` prints it."""
        return {
            "examples": self.examples,
            "held_out": self.held_out,
            "hyperparameters": self.hyperparameters.to_json(),
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
            "openai": {
                "model": self.price.model,
                "price_table": self.price.table,
                "training_dollars_per_million": self.price.training,
                "training_dollars_per_hour": self.price.training_hour,
                "billed_tokens": self.openai_tokens,
                "dollars": self.openai_cost,
                "answers": self.answers.to_json() if self.answers else None,
            },
            "trained_tokens": self.trained_tokens,
            "learned_tokens": self.learned_tokens,
            "exact": self.exact,
            "seconds": self.seconds,
            "verdict_seconds": self.verdict_seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "local_cost": self.local_cost,
            **self._of_ranks(),
        }

    @property
    def machine_memory_bytes(self) -> int | None:
        """Of all ranks together.

        Ranks on one processor have the pages of the base's file in common, and take less.
        """
        return None if self.peak_memory_bytes is None else self.ranks * self.peak_memory_bytes

    def _of_ranks(self) -> JsonObject:
        return {"ranks": self.ranks, "machine_memory_bytes": self.machine_memory_bytes} if self.ranks > 1 else {}


@dataclass(frozen=True, slots=True)
class Machine:
    """What is known of the machine that trains.

    `work` is what the trainer will compute; without it all tokens are taken to be computed, which is the most.
    `hourly_cost` is what an hour of the machine costs its owner, in dollars.
    """

    benchmark: Benchmark | None = None
    work: Workload | None = None
    hourly_cost: float | None = None

    def cost(self, seconds: float | None) -> float | None:
        """Dollars for so many seconds of it; None where one of the two is unknown."""
        if seconds is None or self.hourly_cost is None:
            return None
        return round(seconds / 3600 * self.hourly_cost, 6)


def estimate(
    report: Report,
    hyperparameters: Hyperparameters,
    price: Price = DEFAULT_PRICE,
    machine: Machine = Machine(),
    verdict: VerdictPlan | None = None,
) -> Estimate:
    """The estimate for training on the file that `report` is about.

    Which rows are held out for the verdict is drawn when the job begins, so their tokens are the file's mean.
    """
    training = _training(report, hyperparameters, price, machine, 0 if verdict is None else verdict.held_out)
    if verdict is None or training.seconds is None:
        return training
    taken = verdict.seconds(training.seconds)
    seconds = training.seconds + taken
    return replace(training, seconds=seconds, verdict_seconds=taken, local_cost=machine.cost(seconds))


def job_tokens(report: Report, hyperparameters: Hyperparameters) -> tuple[float, float]:
    """The base's tokens in a mean step and in a whole job.

    Each row counts as a whole.
    """
    tokens, rows = report.base.tokens if report.base else 0, max(1, report.sound_rows)
    return hyperparameters.batch_size * tokens / rows, float(tokens * hyperparameters.n_epochs)


def _training(
    report: Report, hyperparameters: Hyperparameters, price: Price, machine: Machine, held_out: int
) -> Estimate:
    epochs, base = hyperparameters.n_epochs, report.base
    kept = 1 - held_out / report.sound_rows if held_out else 1.0
    steps = math.ceil((report.sound_rows - held_out) / hyperparameters.batch_size)
    openai_tokens = round(report.openai.billed_tokens * kept) * epochs
    seconds, memory = _seconds_and_memory(report, hyperparameters, steps, machine, kept)
    return Estimate(
        hyperparameters=hyperparameters,
        examples=report.examples - held_out,
        steps_per_epoch=steps,
        total_steps=steps * epochs,
        openai_tokens=openai_tokens,
        openai_cost=_rounded(training_cost(price, openai_tokens)),
        price=price,
        trained_tokens=round(base.tokens * kept) * epochs if base else None,
        learned_tokens=round(base.learned_tokens * kept) * epochs if base else None,
        exact=not held_out and (base.exact if base else True),
        seconds=seconds,
        peak_memory_bytes=memory,
        local_cost=machine.cost(seconds),
        answers=_answers(report, price),
        held_out=held_out,
        ranks=machine.benchmark.ranks if machine.benchmark else 1,
    )


def _seconds_and_memory(
    report: Report, hyperparameters: Hyperparameters, steps: int, machine: Machine, kept: float
) -> tuple[float | None, int | None]:
    """Wall time and peak memory of the training.

    `steps` are those of one epoch, `kept` is the share of the rows that is trained.
    """
    benchmark, base = machine.benchmark, report.base
    if benchmark is None or base is None:
        return None, None
    longest = base.lengths.maximum if base.lengths else 0
    work = machine.work or unpacked(base.tokens, longest, hyperparameters.batch_size, benchmark)
    epochs = hyperparameters.n_epochs
    seconds = training_seconds(benchmark, round(work.tokens * kept) * epochs, steps * epochs)
    return seconds, peak_memory(benchmark, work.largest, longest)


def _answers(report: Report, price: Price) -> AnswersCost | None:
    """1,000 answers like the file's; None for rows from which no answer's length can be told, such as pairs."""
    rows, counts = report.sound_rows, report.openai
    if report.kind not in ("chat", "completion") or not rows or not counts.learned_tokens:
        return None
    cost = answer_cost(price, counts.tokens - counts.learned_tokens, counts.learned_tokens)
    per_thousand = None if cost is None else cost / rows * 1000
    answer = counts.learned_tokens / rows
    return AnswersCost(counts.tokens / rows - answer, answer, _rounded(per_thousand))


def _rounded(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 6)


__all__ = [
    "AnswersCost",
    "Estimate",
    "Hyperparameters",
    "Machine",
    "auto_epochs",
    "estimate",
    "job_tokens",
    "resolve_hyperparameters",
]
