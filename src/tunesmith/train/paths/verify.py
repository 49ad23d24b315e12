"""Before a run trusts the fast path: do a few of its rows come out as the plain path has them?"""

from collections.abc import Sequence

import torch

from tunesmith.train.core.examples import Example
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.scoring import Scorer

ROWS = 2
TOKENS = 32  # of each row: enough to see wrong positions, masks and neighbours, in half a second of a small base
TOLERANCE = 2e-3  # of a log-probability, for fp32; wrong attention is off by 0.1 and more
BF16_TOLERANCE = 0.25


class Disagreement(Exception):
    """The fast path computes something else than the plain one for this model."""


def probe(examples: Sequence[Example]) -> list[TokenRow]:
    """The beginnings of a few rows, every token learned, and one of them twice with another ending."""
    rows = [example.rows[0].ids[:TOKENS] for example in examples[:ROWS]]
    first = rows[0]
    half = max(2, len(first) // 2)
    rows.append((*first[:half], *reversed(first[:half])))
    return [TokenRow(ids, (1.0,) * len(ids)) for ids in rows]


def plain_logprobs(scorer: Scorer, rows: Sequence[TokenRow]) -> torch.Tensor:
    with torch.no_grad():
        return scorer.score(rows).logprobs.float()


def compare(expected: torch.Tensor, scorer: Scorer, rows: Sequence[TokenRow], dtype: torch.dtype) -> None:
    """Raises Disagreement, naming the difference."""
    difference = float((plain_logprobs(scorer, rows) - expected).abs().max())
    tolerance = TOLERANCE if dtype in (torch.float32, torch.float64) else BF16_TOLERANCE
    if not difference <= tolerance:  # also true for nan
        raise Disagreement(f"log-probabilities differ by {difference:.2g} from the plain path's")
