"""What a step trains: lines as tokens, in the order of an epoch."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunesmith.train.core.packing import TokenRow

LEAD_IN = 3  # tokens before an answer


@dataclass(frozen=True, slots=True)
class Example:
    """One line of the file.

    It is one row, or several where the base's template rewrites earlier answers: each is learned in one of them. For a
    preference it is the preferred answer and the other, each with its prompt.
    """

    line: int
    rows: tuple[TokenRow, ...]
    tokens: int  # trained tokens: each token of the line once
    is_pair: bool = False

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(row.learned for row in self.rows)


@dataclass(frozen=True, slots=True)
class Batch:
    """One optimizer step: number `step` of the run (from 1), in `epoch` (from 1)."""

    step: int
    epoch: int
    last_of_epoch: bool
    examples: tuple[Example, ...]

    @property
    def tokens(self) -> int:
        """How many tokens the step trains."""
        return sum(example.tokens for example in self.examples)

    @property
    def units(self) -> list[tuple[TokenRow, ...]]:
        """The rows of the step, those together that a loss compares."""
        pairs = [example.rows for example in self.examples if example.is_pair]
        return pairs + [(row,) for example in self.examples if not example.is_pair for row in example.rows]


@dataclass(frozen=True, slots=True)
class Sampler:
    """The batches of a run, as a pure function of seed and step.

    A resumed run needs no state but the step.
    """

    examples: Sequence[Example]
    batch_size: int
    n_epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """How many batches one epoch has."""
        return -(-len(self.examples) // self.batch_size)

    @property
    def total_steps(self) -> int:
        """How many batches the run has."""
        return self.steps_per_epoch * self.n_epochs

    @property
    def answers(self) -> Iterator[tuple[int, ...]]:
        """The runs of learned tokens of each line, each with a few tokens before it."""
        rows = (row for example in self.examples for row in example.rows[: 1 if example.is_pair else None])
        return (run for row in rows for run in _learned_runs(row))

    def batches(self, after_step: int = 0) -> Iterator[Batch]:
        """All batches after `after_step`."""
        first_epoch = after_step // self.steps_per_epoch
        for epoch in range(first_epoch, self.n_epochs):
            order = self.order(epoch)
            for index in range(self.steps_per_epoch):
                step = epoch * self.steps_per_epoch + index + 1
                if step > after_step:
                    chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
                    rows = tuple(self.examples[i] for i in chosen)
                    yield Batch(step, epoch + 1, index + 1 == self.steps_per_epoch, rows)

    def order(self, epoch: int) -> list[int]:
        """The permutation of epoch `epoch` (from 0)."""
        order = list(range(len(self.examples)))
        random.Random(f"{self.seed}/{epoch}").shuffle(order)  # a str seeds by SHA-512: the same on every machine
        return order


def _learned_runs(row: TokenRow) -> Iterator[tuple[int, ...]]:
    start: int | None = None
    for place, weight in enumerate([*row.weights, 0.0]):
        if weight > 0.0 and start is None:
            start = place
        elif weight <= 0.0 and start is not None:
            yield row.ids[max(0, start - LEAD_IN) : place]
            start = None
