"""What of both sides is neither right nor wrong: loss, length, time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.statistics import ALPHA, LEAST_ROWS, Difference, weighted_difference
from tunesmith.evals.wording import counted, too_few
from tunesmith.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class Measure:
    """A mean of each side, and the interval of the difference.

    `size`: of how many rows or tokens it is the mean.
    """

    name: str
    unit: str
    size: int
    conversations: int
    before: float
    after: float
    difference: Difference

    @property
    def decisive(self) -> bool:
        """Whether the difference is more than chance makes, at the 5 % level."""
        return self.difference.p < ALPHA

    def to_json(self) -> JsonObject:
        """Name, means, difference with its interval, and p."""
        mean = self.difference.mean
        return {
            "name": self.name,
            "unit": self.unit,
            "size": self.size,
            "before": self.before,
            "after": self.after,
            "difference": {"value": mean.value, "low": mean.low, "high": mean.high},
            "p": self.difference.p,
        }


def measures(pairs: Sequence[Pair]) -> tuple[Measure, ...]:
    """Length and time of the answers; of one conversation none, as in `loss`."""
    if not _several(pairs):
        return ()
    return (
        _each_row("answer length", "tokens", pairs, lambda one: one.tokens),
        _each_row("time to answer", "s", pairs, lambda one: one.seconds),
    )


def loss(pairs: Sequence[Pair]) -> Measure | None:
    """The loss for each token of the file's answers.

    None where it was not measured, or of one conversation only.
    """
    known = [one for one in pairs if one.before.loss is not None and one.after.loss is not None]
    tokens = sum(one.after.loss_tokens for one in known)
    if not tokens or not _several(known):
        return None
    before = [one.before.loss or 0.0 for one in known]
    after = [one.after.loss or 0.0 for one in known]
    changes = np.asarray(after) - np.asarray(before)
    sizes = [one.after.loss_tokens for one in known]
    lines = [one.question.line for one in known]
    found = weighted_difference(changes, sizes, lines)
    return Measure("loss", "for each token", tokens, len({*lines}), sum(before) / tokens, sum(after) / tokens, found)


def loss_sentence(one: Measure) -> str:
    """The loss and the perplexity in plain words.

    `loss 2.31 -> 1.20 on 3,012 tokens (-1.11, 95 % interval -1.30 to -0.95), perplexity 10.1 -> 3.32: the wanted
    answers are likelier`.
    """
    mean = one.difference.mean
    return (
        f"loss {one.before:.2f} -> {one.after:.2f} on {counted(one.size, 'token')}"
        f" ({mean.value:+.2f}, 95 % interval {mean.low:+.2f} to {mean.high:+.2f}),"
        f" perplexity {perplexity(one.before):.3g} -> {perplexity(one.after):.3g}: {_said(one)}"
    )


def _said(one: Measure) -> str:
    if one.decisive:
        return f"the wanted answers are {'likelier' if one.difference.mean.value < 0 else 'less likely'}"
    if one.conversations < LEAST_ROWS:
        return too_few(one.conversations)
    return "not decisive"


def perplexity(mean_loss: float) -> float:
    """The number of equally likely tokens that would leave as much doubt."""
    return math.exp(min(mean_loss, 700.0))


def _several(pairs: Sequence[Pair]) -> bool:
    return len({one.question.line for one in pairs}) > 1


def _each_row(name: str, unit: str, pairs: Sequence[Pair], of: Callable[[Answer], float]) -> Measure:
    before, after = [of(one.before) for one in pairs], [of(one.after) for one in pairs]
    changes = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    lines = [one.question.line for one in pairs]
    found = weighted_difference(changes, np.ones_like(changes), lines)
    return Measure(name, unit, len(pairs), len({*lines}), sum(before) / len(pairs), sum(after) / len(pairs), found)
