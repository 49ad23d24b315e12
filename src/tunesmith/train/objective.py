"""What a step minimises: the gradient of a batch, and what is reported of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from tunesmith.train.core.batches import Batch, Example
from tunesmith.train.core.losses import dpo_loss, supervised_loss
from tunesmith.train.core.packing import ENOUGH_TOKENS, TokenRow, largest_part
from tunesmith.train.paths.scoring import Computed, Scorer
from tunesmith.train.ranks.division import share_of_examples, share_of_units
from tunesmith.train.ranks.group import ONE_RANK, Ranks
from tunesmith.train.sharding.scorer import parts_of
from tunesmith.train.validation import Quality, quality_of, validate, validate_pairs

ZERO = torch.zeros((), dtype=torch.float64)  # of sums that are read after the last part: a GPU is not waited for before


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A rank's share of one batch's loss, accuracy and work.

    The loss is a share of the batch's mean. Of `counted` predictions or pairs, `right` were right.
    """

    loss: float
    right: int
    counted: int
    computed: Computed

    @property
    def accuracy(self) -> float:
        """The share that was right, of the complete batch's result."""
        return self.right / self.counted


class Objective(Protocol):
    """A training method."""

    def backward(self, batch: Batch) -> BatchResult:
        """Adds this rank's share of the batch's gradient to the parameters' `grad`."""
        ...

    def quality(self, examples: Sequence[Example]) -> Quality:
        """Loss and accuracy of rows that are not trained, shared by the ranks."""
        ...

    def in_smaller_pieces(self, examples: Sequence[Example]) -> "Objective":
        """The same, with half as many tokens at once.

        Half of what the largest part of this rank's share of `examples` has now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Supervised:
    """Mean negative log-likelihood over the learned tokens of the batch."""

    scorer: Scorer
    micro_batch_tokens: int
    enough_tokens: int = ENOUGH_TOKENS  # see `split`
    ranks: Ranks = ONE_RANK

    def backward(self, batch: Batch) -> BatchResult:
        """See `Objective`."""
        everything = batch.units
        total = sum(sum(row.weights[1:]) for (row,) in everything)
        units = share_of_units(everything, self.ranks)
        loss, correct, learned, computed = ZERO, ZERO, 0, Computed()
        for part in parts_of(self.scorer, units, self.micro_batch_tokens, self.enough_tokens):
            scores = self.scorer.score([units[index][0] for index in part])
            part_loss = supervised_loss(scores.logprobs, scores.weights, total)
            part_loss.backward()
            loss = loss + part_loss.detach()
            correct = correct + scores.correct.sum()
            learned += scores.correct.numel()
            computed += scores.computed
        return BatchResult(float(loss), int(correct), learned, computed)

    def quality(self, examples: Sequence[Example]) -> Quality:
        """See `Objective`."""
        mine = share_of_examples(examples, self.ranks)
        return quality_of(validate(self.scorer, mine, self.micro_batch_tokens, self.enough_tokens), self.ranks)

    def in_smaller_pieces(self, examples: Sequence[Example]) -> "Supervised":
        """See `Objective`."""
        units = share_of_units([(row,) for example in examples for row in example.rows], self.ranks)
        half = largest_part(units, self.micro_batch_tokens, self.enough_tokens) // 2
        return replace(self, micro_batch_tokens=half, enough_tokens=min(half, self.enough_tokens))


@dataclass(frozen=True, slots=True)
class Preference:
    """DPO: the mean over the pairs of the batch.

    Accuracy is the share of pairs whose preferred answer has the higher reward.
    """

    scorer: Scorer
    micro_batch_tokens: int
    beta: float
    references: dict[int, tuple[float, float]]  # line -> log-probabilities of its answers where the job began
    validation_references: dict[int, tuple[float, float]]
    enough_tokens: int = ENOUGH_TOKENS
    ranks: Ranks = ONE_RANK

    def backward(self, batch: Batch) -> BatchResult:
        """See `Objective`."""
        examples = share_of_examples(batch.examples, self.ranks)
        loss, right, computed = ZERO, ZERO, Computed()
        for part in parts_of(self.scorer, [one.rows for one in examples], self.micro_batch_tokens, self.enough_tokens):
            chosen = [examples[index] for index in part]
            scores = self.scorer.score(_rows(chosen))
            sums = scores.row_sums(2 * len(chosen))
            known = torch.tensor([self.references[item.line] for item in chosen], dtype=sums.dtype, device=sums.device)
            losses, margins = dpo_loss(sums[0::2], sums[1::2], known[:, 0], known[:, 1], self.beta)
            part_loss = losses.sum() / len(batch.examples)
            part_loss.backward()
            loss = loss + part_loss.detach()
            right = right + (margins > 0).sum()
            computed += scores.computed
        return BatchResult(float(loss), int(right), len(examples), computed)

    def quality(self, examples: Sequence[Example]) -> Quality:
        """See `Objective`."""
        mine, known, most = share_of_examples(examples, self.ranks), self.validation_references, self.micro_batch_tokens
        return quality_of(validate_pairs(self.scorer, mine, known, self.beta, most, self.enough_tokens), self.ranks)

    def in_smaller_pieces(self, examples: Sequence[Example]) -> "Preference":
        """See `Objective`."""
        units = [example.rows for example in share_of_examples(examples, self.ranks)]
        half = largest_part(units, self.micro_batch_tokens, self.enough_tokens) // 2
        return replace(self, micro_batch_tokens=half, enough_tokens=min(half, self.enough_tokens))


def answer_logprobs(
    scorer: Scorer, examples: Sequence[Example], budget: int, enough: int = ENOUGH_TOKENS
) -> dict[int, tuple[float, float]]:
    """Log-probabilities of each line's two answers under the model as it is now."""
    known: dict[int, tuple[float, float]] = {}
    with torch.no_grad():
        for part in parts_of(scorer, [example.rows for example in examples], budget, enough):
            chosen = [examples[index] for index in part]
            sums = scorer.score(_rows(chosen)).row_sums(2 * len(chosen)).tolist()
            known.update({item.line: (sums[2 * i], sums[2 * i + 1]) for i, item in enumerate(chosen)})
    return known


def _rows(examples: Sequence[Example]) -> list[TokenRow]:
    return [row for example in examples for row in example.rows]
