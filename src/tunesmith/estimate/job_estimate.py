"""The estimate of a job: steps, tokens, time, memory, money at OpenAI and here.

Prices count OpenAI's tokens; time and memory count the base's own, because those are what is trained here.
"""

import math
from dataclasses import dataclass

from tunesmith.check.report.file_report import Report
from tunesmith.estimate.hyperparameters import Hyperparameters, auto_epochs, resolve_hyperparameters
from tunesmith.estimate.prices import DEFAULT_PRICE, Price, answer_cost, training_cost
from tunesmith.estimate.speed import Benchmark, Workload, peak_memory, training_seconds, unpacked
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

    `openai_*` is what OpenAI would have billed, None where that is not known.
    `trained_tokens` is what the job here will report.
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

    def to_json(self) -> JsonObject:
        """The estimate as `tunesmith estimate --json` prints it."""
        return {
            "examples": self.examples,
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
            "peak_memory_bytes": self.peak_memory_bytes,
            "local_cost": self.local_cost,
        }


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
    report: Report, hyperparameters: Hyperparameters, price: Price = DEFAULT_PRICE, machine: Machine = Machine()
) -> Estimate:
    """The estimate for training on the file that `report` is about."""
    epochs = hyperparameters.n_epochs
    steps = math.ceil(report.sound_rows / hyperparameters.batch_size)
    openai_tokens = report.openai.billed_tokens * epochs
    seconds, memory = _seconds_and_memory(report, hyperparameters, steps, machine)
    base = report.base
    return Estimate(
        hyperparameters=hyperparameters,
        examples=report.examples,
        steps_per_epoch=steps,
        total_steps=steps * epochs,
        openai_tokens=openai_tokens,
        openai_cost=_rounded(training_cost(price, openai_tokens)),
        price=price,
        trained_tokens=base.tokens * epochs if base else None,
        learned_tokens=base.learned_tokens * epochs if base else None,
        exact=base.exact if base else True,
        seconds=seconds,
        peak_memory_bytes=memory,
        local_cost=machine.cost(seconds),
        answers=_answers(report, price),
    )


def _seconds_and_memory(
    report: Report, hyperparameters: Hyperparameters, steps: int, machine: Machine
) -> tuple[float | None, int | None]:
    """Wall time and peak memory of the training; `steps` are those of one epoch."""
    benchmark, base = machine.benchmark, report.base
    if benchmark is None or base is None:
        return None, None
    longest = base.lengths.maximum if base.lengths else 0
    work = machine.work or unpacked(base.tokens, longest, hyperparameters.batch_size, benchmark)
    epochs = hyperparameters.n_epochs
    return training_seconds(benchmark, work.tokens * epochs, steps * epochs), peak_memory(benchmark, work.largest)


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
    "resolve_hyperparameters",
]
