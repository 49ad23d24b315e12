"""What a job will cost before it is started: steps, tokens, money, time, memory, and when it pays.

Prices count OpenAI's tokens; time and memory count the base's own, because those are what is trained here.
"""

import math
from dataclasses import dataclass

from tunesmith.check.report.file_report import Report
from tunesmith.estimate.hyperparameters import Hyperparameters, auto_epochs, resolve_hyperparameters
from tunesmith.estimate.prices import DEFAULT_PRICE, Price
from tunesmith.estimate.speed import Benchmark, Workload, peak_memory, training_seconds, unpacked
from tunesmith.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class BreakEven:
    """How many calls until the tuned model, asked without the system prompt, has earned its training back.

    Dollars per call, before: the plain model with the system prompt; after: the tuned one without it. `calls` is
    None when the tuned call is not the cheaper one.
    """

    system_tokens: float
    before: float
    after: float
    calls: int | None

    def to_json(self) -> JsonObject:
        return {
            "system_tokens": round(self.system_tokens, 1),
            "dollars_per_call_before": self.before,
            "dollars_per_call_after": self.after,
            "calls": self.calls,
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """`openai_*` is what OpenAI would have billed; `trained_tokens` is what the job here will report."""

    hyperparameters: Hyperparameters
    examples: int
    steps_per_epoch: int
    total_steps: int
    openai_tokens: int
    openai_cost: float
    price: Price
    trained_tokens: int | None
    learned_tokens: int | None
    exact: bool
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    local_cost: float | None = None
    break_even: BreakEven | None = None

    def to_json(self) -> JsonObject:
        return {
            "examples": self.examples,
            "hyperparameters": self.hyperparameters.to_json(),
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
            "openai": {
                "model": self.price.model,
                "price_table": self.price.table,
                "training_dollars_per_1k": self.price.training,
                "billed_tokens": self.openai_tokens,
                "dollars": self.openai_cost,
            },
            "trained_tokens": self.trained_tokens,
            "learned_tokens": self.learned_tokens,
            "exact": self.exact,
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "local_cost": self.local_cost,
            "break_even": self.break_even.to_json() if self.break_even else None,
        }


def estimate(
    report: Report,
    hyperparameters: Hyperparameters,
    price: Price = DEFAULT_PRICE,
    *,
    benchmark: Benchmark | None = None,
    work: Workload | None = None,
    hourly_cost: float | None = None,
) -> Estimate:
    """The estimate for training on `report`'s file. `hourly_cost` is what an hour of the user's own machine costs.

    `work` is what the trainer will compute; without it all tokens are taken to be computed, which is the most.
    """
    epochs = hyperparameters.n_epochs
    steps = math.ceil(report.sound_rows / hyperparameters.batch_size)
    openai_tokens = report.openai.billed_tokens * epochs
    cost = round(openai_tokens * price.training / 1000, 6)
    trained = report.base.tokens * epochs if report.base else None
    seconds = memory = None
    if benchmark is not None and report.base is not None:
        longest = report.base.lengths.maximum if report.base.lengths else 0
        work = work or unpacked(report.base.tokens, longest, hyperparameters.batch_size, benchmark)
        seconds = training_seconds(benchmark, work.tokens * epochs, steps * epochs)
        memory = peak_memory(benchmark, work.largest)
    return Estimate(
        hyperparameters=hyperparameters,
        examples=report.examples,
        steps_per_epoch=steps,
        total_steps=steps * epochs,
        openai_tokens=openai_tokens,
        openai_cost=cost,
        price=price,
        trained_tokens=trained,
        learned_tokens=report.base.learned_tokens * epochs if report.base else None,
        exact=report.base.exact if report.base else True,
        seconds=seconds,
        peak_memory_bytes=memory,
        local_cost=round(seconds / 3600 * hourly_cost, 6) if seconds is not None and hourly_cost is not None else None,
        break_even=_break_even(report, price, cost),
    )


def _break_even(report: Report, price: Price, training_cost: float) -> BreakEven | None:
    """Over the file's mean call; None without system prompts or without a price for the plain model."""
    if not report.openai.system_tokens or not report.sound_rows or price.plain_input is None:
        return None
    rows = report.sound_rows
    system, answer = report.openai.system_tokens / rows, report.openai.learned_tokens / rows
    question = max(0.0, report.openai.tokens / rows - system - answer)
    plain_output = price.plain_output if price.plain_output is not None else price.output
    before = ((system + question) * price.plain_input + answer * plain_output) / 1000
    after = (question * price.input + answer * price.output) / 1000
    calls = math.ceil(training_cost / (before - after)) if before > after else None
    return BreakEven(system, round(before, 8), round(after, 8), calls)


__all__ = ["BreakEven", "Estimate", "Hyperparameters", "auto_epochs", "estimate", "resolve_hyperparameters"]
