"""The check before a run: do a few rows agree with the reference path?"""

from collections.abc import Sequence

import torch

from tunesmith.train.core.examples import Example
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.scoring import Scorer

ROWS = 2
TOKENS = 32  # of each row: enough to show wrong positions, masks and neighbours; half a second with a small base
TOLERANCE = 2e-3  # of a log-probability in fp32; wrong attention is off by 0.1 or more
BF16_TOLERANCE = 0.25


class Disagreement(Exception):
    """The fast path computes something else than the reference path for this model."""


def probe(examples: Sequence[Example]) -> list[TokenRow]:
    """The beginnings of a few rows, and one of them with another ending.

    Every token of them is learned.
    """
    rows = [example.rows[0].ids[:TOKENS] for example in examples[:ROWS]]
    first = rows[0]
    half = max(2, len(first) // 2)
    rows.append((*first[:half], *reversed(first[:half])))
    return [TokenRow(ids, (1.0,) * len(ids)) for ids in rows]


def reference_logprobs(scorer: Scorer, rows: Sequence[TokenRow]) -> torch.Tensor:
    """Log-probabilities of the rows' learned tokens [L], without gradients."""
    with torch.no_grad():
        return scorer.score(rows).logprobs.float()


def compare(expected: torch.Tensor, scorer: Scorer, rows: Sequence[TokenRow], dtype: torch.dtype) -> None:
    """Raises Disagreement, naming the difference."""
    difference = float((reference_logprobs(scorer, rows) - expected).abs().max())
    tolerance = TOLERANCE if dtype in (torch.float32, torch.float64) else BF16_TOLERANCE
    if not difference <= tolerance:  # also true for nan
        raise Disagreement(f"log-probabilities differ by {difference:.2g} from the reference path's")
