"""Loss and accuracy on rows that are not trained."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunesmith.train.core.batches import Example
from tunesmith.train.core.losses import dpo_loss
from tunesmith.train.core.packing import ENOUGH_TOKENS
from tunesmith.train.paths.scoring import Scorer
from tunesmith.train.ranks.group import Ranks
from tunesmith.train.sharding.scorer import parts_of

SAMPLE_ROWS = 32  # of a validation between epoch ends


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over learned tokens; for preferences, over pairs."""

    loss: float
    accuracy: float


def sample(examples: Sequence[Example], seed: int, rows: int = SAMPLE_ROWS) -> list[Example]:
    """The same rows in every validation of a run, so that its values compare."""
    if len(examples) <= rows:
        return list(examples)
    return random.Random(f"{seed}/validation").sample(list(examples), rows)


@dataclass(frozen=True, slots=True)
class Sums:
    """What the means are made of: of all rows, or of a rank's share of them."""

    loss: float
    weight: float  # of the loss
    right: float
    counted: float  # what may be right


def quality_of(sums: Sums, ranks: Ranks) -> Quality:
    """The means over the rows of all ranks."""
    loss, weight, right, counted = ranks.totals([sums.loss, sums.weight, sums.right, sums.counted])
    return Quality(loss / weight, right / counted)


def validate(scorer: Scorer, examples: Sequence[Example], budget: int, enough: int = ENOUGH_TOKENS) -> Sums:
    """Loss and accuracy over the learned tokens of `examples`."""
    loss = weight = correct = learned = 0.0
    with torch.no_grad():
        for part in parts_of(scorer, [example.rows for example in examples], budget, enough):
            scores = scorer.score([row for index in part for row in examples[index].rows])
            loss -= float((scores.logprobs * scores.weights).sum())
            weight += float(scores.weights.sum())
            correct += float(scores.correct.sum())
            learned += scores.correct.numel()
    return Sums(loss, weight, correct, learned)


def validate_pairs(
    scorer: Scorer,
    examples: Sequence[Example],
    references: dict[int, tuple[float, float]],
    beta: float,
    budget: int,
    enough: int = ENOUGH_TOKENS,
) -> Sums:
    """DPO's loss, and how many pairs prefer the preferred answer."""
    loss = right = 0.0
    with torch.no_grad():
        for part in parts_of(scorer, [example.rows for example in examples], budget, enough):
            chosen = [examples[index] for index in part]
            sums = scorer.score([row for example in chosen for row in example.rows]).row_sums(2 * len(chosen))
            known = torch.tensor([references[example.line] for example in chosen], dtype=sums.dtype, device=sums.device)
            losses, margins = dpo_loss(sums[0::2], sums[1::2], known[:, 0], known[:, 1], beta)
            loss += float(losses.sum())
            right += float((margins > 0).sum())
    return Sums(loss, len(examples), right, len(examples))
