"""Two runs of an eval over the same rows, and how sure a difference is.

The rows are independent, so all there is to a criterion is four counts. The interval of the difference is the
bootstrap's of `evals.statistics`, drawn as counts: ten thousand rows take as long as ten. Newcombe's where few change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.evals.comparison import Decision, Table
from tunesmith.evals.statistics import (
    ALPHA,
    DRAWS,
    LEAST_ROWS,
    NORMAL,
    SEED,
    Interval,
    mcnemar,
    score_difference,
    student_quantile,
    wilson,
)


@dataclass(frozen=True, slots=True)
class Shares:
    """The share of rows that passed in each run, and their difference."""

    table: Table
    before: Interval
    after: Interval
    difference: Interval
    p: float

    @property
    def rows(self) -> int:
        """How many rows both runs have done."""
        return self.table.rows

    @property
    def decision(self) -> Decision:
        """What can be said at the 5 % level."""
        if self.p >= ALPHA or not self.difference.value:
            return "too few rows" if self.rows < LEAST_ROWS else "not decisive"
        return "better" if self.difference.value > 0 else "worse"


def tabulate(before: Sequence[bool], after: Sequence[bool]) -> Table:
    """Rows by which run they passed in."""
    pairs = list(zip(before, after, strict=True))
    return Table(*(pairs.count(one) for one in ((True, True), (False, True), (True, False), (False, False))))


def compare_shares(table: Table) -> Shares:
    """What the counts say; p is McNemar's."""
    return Shares(
        table,
        wilson(table.both + table.lost, table.rows),
        wilson(table.both + table.gained, table.rows),
        _difference(table),
        mcnemar(table.gained, table.lost),
    )


def _difference(table: Table) -> Interval:
    rows = table.rows
    if rows < 2:
        return Interval((table.gained - table.lost) / max(1, rows), -1.0, 1.0)
    if table.few_changes:
        return score_difference(*table.counts)
    shares = np.array([table.gained, table.lost, table.both + table.neither]) / rows
    drawn = np.random.default_rng(SEED).multinomial(rows, shares, DRAWS)
    tail = NORMAL.cdf(-math.sqrt(rows / (rows - 1)) * student_quantile(1 - ALPHA / 2, rows - 1))
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / rows, (tail, 1 - tail))
    return Interval((table.gained - table.lost) / rows, float(low), float(high))
