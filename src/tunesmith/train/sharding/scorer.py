"""Scoring with weights that no rank has as a whole: all ranks compute together."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch

from tunesmith.train.core.packing import ENOUGH_TOKENS, TokenRow, split
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import Scorer, Scores
from tunesmith.train.ranks.group import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHOD = "tunesmith_score"  # the name under which a scorer becomes a method of its model, as FSDP wants it
IDLE_TOKENS = 2


class ShardedScorer:
    """A scorer whose every call is a pass of all ranks, each with rows of its own."""

    def __init__(self, model: "PreTrainedModel", scorer: Scorer, ranks: Ranks, row: TokenRow) -> None:
        """`row`: its first tokens are what a rank without rows computes."""
        self._ranks, self._scorer = ranks, scorer
        self._idle = TokenRow(row.ids[:IDLE_TOKENS], (0.0, *(1.0,) * (len(row.ids[:IDLE_TOKENS]) - 1)))
        self._method: Callable[[Sequence[TokenRow]], tuple[object, ...]] | None = None
        if not isinstance(scorer, PaddedScorer):  # that calls the model itself
            from torch.distributed.fsdp import register_fsdp_forward_method

            setattr(model, METHOD, self._fields)
            register_fsdp_forward_method(model, METHOD)
            self._method = getattr(model, METHOD)

    def score(self, rows: Sequence[TokenRow]) -> Scores:
        """See `Scorer`."""
        return self._scorer.score(rows) if self._method is None else Scores(*self._method(rows))  # type: ignore[arg-type]

    def passes(self, mine: int) -> int:
        """Of the rank that has most; this one has `mine`."""
        return max(cast(list[int], self._ranks.of_all(mine)))

    def idle(self) -> None:
        """A pass that adds nothing, for the sake of the ranks that have rows left."""
        logprobs = self.score([self._idle]).logprobs
        if torch.is_grad_enabled():
            (logprobs * 0.0).sum().backward()

    def _fields(self, rows: Sequence[TokenRow]) -> tuple[object, ...]:
        """FSDP looks for tensors in what a method returns: in a tuple, not in an object."""
        found = self._scorer.score(rows)
        return found.logprobs, found.correct, found.weights, found.rows, found.computed


def parts_of(
    scorer: Scorer, units: Sequence[Sequence[TokenRow]], most: int, enough: int = ENOUGH_TOKENS
) -> Iterator[list[int]]:
    """The parts of `split`, each of which is to be scored once.

    After the last one, this rank keeps step with those that have more.
    """
    parts = split(units, most, enough)
    if not isinstance(scorer, ShardedScorer):
        yield from parts
        return
    passes = scorer.passes(len(parts))
    yield from parts
    for _ in range(passes - len(parts)):
        scorer.idle()
