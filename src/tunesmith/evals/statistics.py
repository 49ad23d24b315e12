"""How sure a difference between two sides is, from paired rows.

A row is answered by both sides, so its two scores are compared with one another; rows of one conversation are not
independent, so conversations are drawn and flipped as a whole. Everything random is seeded: the same rows give the same
numbers.

Sources: Wilson 1927 (interval of a share); McNemar 1947, in its exact form (right or wrong); Hesterberg 2015 (the
bootstrap's percentiles, widened for few clusters); Newcombe 1998 (method 10: paired shares, where a bootstrap sees too
few changes); Clopper and Pearson 1934 (what was not seen once); Holm 1979 (several criteria at once).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Key = TypeVar("Key")

LEVEL = 0.95  # of every interval
ALPHA = 1 - LEVEL  # of every test
POWER = 0.8  # with which the rows still needed would decide
LEAST_ROWS = 10  # of which something is said besides that they are too few
FEW_CHANGES = 5  # rows unlike all others: with fewer, what a bootstrap draws hardly varies
DRAWS = 10_000
BLOCK = 4_000_000  # numbers drawn at a time: 32 MB
SEED = 20_270_114
SAME = 1e-9  # scores no further apart are equal
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the interval that covers the truth in 95 of 100 samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of what each row gained from one side to the other.

    `p`: how often chance alone would make a difference as large; `z`: the difference in standard errors.
    """

    mean: Interval
    p: float
    z: float


def wilson(successes: int, trials: int) -> Interval:
    """The share of successes with Wilson's interval; from 0 to 1 without trials."""
    if not trials:
        return Interval(0.0, 0.0, 1.0)
    z = NORMAL.inv_cdf(1 - ALPHA / 2)
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return Interval(share, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided p of McNemar's exact test.

    A fair coin is thrown for each row that only one side has right.
    """
    changed = gained + lost
    fewer = min(gained, lost)
    if 2 * fewer == changed:
        return 1.0
    tail = sum(math.comb(changed, count) for count in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**changed))


def score_difference(both: int, gained: int, lost: int, neither: int) -> Interval:
    """The difference of two paired shares with Newcombe's interval (method 10).

    It does not shrink to a point where all rows change in the same way. From -1 to 1 without rows.
    """
    rows = both + gained + lost + neither
    if not rows:
        return Interval(0.0, -1.0, 1.0)
    after, before = wilson(both + gained, rows), wilson(both + lost, rows)
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    together = both * neither - gained * lost
    shrunk = max(together - rows / 2, 0.0) if together > 0 else float(together)
    phi = shrunk / math.sqrt(product) if product else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    value = (gained - lost) / rows
    low = value - reach(after.value - after.low, before.high - before.value)
    high = value + reach(after.high - after.value, before.value - before.low)
    return Interval(value, max(-1.0, low), min(1.0, high))


def unseen(count: int) -> float:
    """The share that a kind may have of which none was among `count` draws.

    Clopper and Pearson's upper end for 0 of `count`.
    """
    return 1.0 if not count else 1 - (ALPHA / 2) ** (1 / count)


def paired_difference(before: Sequence[float], after: Sequence[float], clusters: Sequence[int]) -> Difference:
    """The mean difference of paired scores between 0 and 1.

    `clusters` numbers each row's conversation. The interval is a bootstrap over conversations; p flips the sign of
    whole conversations. Both use `DRAWS` draws. Where all conversations say the same, a bootstrap would be sure of it;
    the interval has room for as many others as may not have been seen.
    """
    changes = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    return weighted_difference(changes, np.ones_like(changes), clusters, bounds=(-1.0, 1.0))


def mean_score(scores: Sequence[float], clusters: Sequence[int]) -> Interval:
    """The mean of scores between 0 and 1, with the interval of `paired_difference`."""
    mean = weighted_difference(scores, np.ones(len(scores)), clusters, bounds=(0.0, 1.0)).mean
    return Interval(mean.value, max(0.0, mean.low), min(1.0, mean.high))


def weighted_difference(
    changes: npt.ArrayLike,
    sizes: npt.ArrayLike,
    clusters: Sequence[int],
    *,
    bounds: tuple[float, float] | None = None,
) -> Difference:
    """The sum of changes over the sum of sizes, such as a loss for each token.

    `bounds`: between which each change lies, where that is known. See `paired_difference`.
    """
    rows = np.asarray(changes, np.float64)
    if not rows.size:
        return Difference(Interval(0.0, -1.0, 1.0), 1.0, 0.0)
    _, places = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(places, rows).astype(np.float64)
    totals = np.bincount(places, np.asarray(sizes, np.float64)).astype(np.float64)
    mean = float(sums.sum() / totals.sum())
    low, high = (float(one) for one in bootstrap(sums, totals))
    if bounds is not None and len(sums) > 1 and float(np.ptp(sums / totals)) < SAME:
        share = unseen(len(sums))
        low, high = (mean + share * (end - mean) for end in bounds)
    return Difference(Interval(mean, low, high), float(sign_flips(sums)), _standard_errors(sums, totals, mean))


def bootstrap(sums: Floats, sizes: Floats) -> Floats:
    """The low and high end of the mean over conversations drawn with replacement.

    `sums`: [conversations], or [conversations, samples] for many samples at once; `sizes`: [conversations].
    """
    count = len(sums)
    if count == 1:
        return np.stack([np.full(sums.shape[1:], end) for end in (-1.0, 1.0)])  # one says nothing of others
    draw = np.random.default_rng(SEED)
    means = np.empty((DRAWS, *sums.shape[1:]))
    step = max(1, BLOCK // count)
    for start in range(0, DRAWS, step):
        rows = min(step, DRAWS - start)
        places = draw.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        weights = (times @ sizes).reshape(rows, *[1] * (sums.ndim - 1))
        means[start : start + rows] = (times @ sums) / weights
    tail = NORMAL.cdf(-math.sqrt(count / (count - 1)) * student_quantile(1 - ALPHA / 2, count - 1))
    ends: Floats = np.quantile(means, (tail, 1 - tail), axis=0)
    return ends


def sign_flips(sums: Floats) -> Floats:
    """How often the total is as far from zero when fair coins flip conversations.

    `sums` as in `bootstrap`.
    """
    observed = np.abs(sums.sum(axis=0))
    draw = np.random.default_rng(SEED + 1)
    step = max(1, BLOCK // len(sums))
    as_far = np.zeros(sums.shape[1:])
    for start in range(0, DRAWS, step):
        rows = min(step, DRAWS - start)
        signs = draw.integers(0, 2, (rows, len(sums))) * 2.0 - 1
        as_far += (np.abs(signs @ sums) >= observed - 1e-9).sum(axis=0)
    shares: Floats = (as_far + 1) / (DRAWS + 1)
    return shares


def _standard_errors(sums: Floats, sizes: Floats, mean: float) -> float:
    residuals = sums - mean * sizes
    count = len(sums)
    variance = float((residuals**2).sum()) * count / max(1, count - 1) / float(sizes.sum()) ** 2
    return mean / math.sqrt(variance) if variance > 0 else 0.0


@lru_cache(maxsize=256)
def student_quantile(share: float, freedom: int) -> float:
    """The quantile of Student's t, by bisection of its distribution function.

    Three decimals are right from one degree of freedom on.
    """
    if share < 0.5:
        return -student_quantile(1 - share, freedom)
    low, high = 0.0, 2.0
    while _student_share(high, freedom) < share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_share(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _student_share(value: float, freedom: int) -> float:
    """P(T <= value) for value >= 0: the closed sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan2(value, math.sqrt(freedom))
    cosine2, sine = math.cos(angle) ** 2, math.sin(angle)
    if freedom > 400:  # within 1e-4 of the normal distribution's
        return NORMAL.cdf(value * (1 - 1 / (4 * freedom)) / math.sqrt(1 + value * value / (2 * freedom)))
    if freedom % 2:
        term, total = 1.0, 1.0
        for step in range(2, freedom - 1, 2):
            term *= cosine2 * step / (step + 1)
            total += term
        inner = sine * math.cos(angle) * total if freedom > 1 else 0.0
        both = 2 / math.pi * (angle + inner)
    else:
        term, total = 1.0, 1.0
        for step in range(1, freedom - 2, 2):
            term *= cosine2 * step / (step + 1)
            total += term
        both = sine * total
    return 0.5 + both / 2


def holm(values: Mapping[Key, float]) -> dict[Key, float]:
    """Each p, corrected for all of them by Holm's steps.

    None is below the one that came before.
    """
    corrected: dict[Key, float] = {}
    highest = 0.0
    for rank, (key, p) in enumerate(sorted(values.items(), key=lambda one: one[1])):
        highest = max(highest, min(1.0, p * (len(values) - rank)))
        corrected[key] = highest
    return corrected


def rows_needed(rows: int, z: float) -> int | None:
    """About how many rows would decide a true difference of this size.

    None where there is nearly no difference. `z`: the difference over its standard error on `rows` rows. With 80 %
    power, two-sided at 5 %.
    """
    wanted = NORMAL.inv_cdf(1 - ALPHA / 2) + NORMAL.inv_cdf(POWER)
    if abs(z) < 0.2:
        return None
    return max(rows + 1, math.ceil(rows * (wanted / z) ** 2))
