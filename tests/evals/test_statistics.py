"""The statistics against closed values and by simulation, all seeded."""

import math

import numpy as np
import pytest
from tests.samples import WHOLE

from tunesmith.evals import statistics
from tunesmith.evals.statistics import (
    bootstrap,
    holm,
    mcnemar,
    mean_score,
    paired_difference,
    rows_needed,
    score_difference,
    sign_flips,
    student_quantile,
    unseen,
    weighted_difference,
    wilson,
)

TRIALS = 10_000
FEWER = TRIALS if WHOLE else 4_000  # of what takes seconds


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (61, 200, 0.245364, 0.371986), (1, 1, 0.20655, 1.0), (0, 0, 0, 1)],
)
def test_wilsons_interval_has_known_values(successes: int, trials: int, low: float, high: float) -> None:
    found = wilson(successes, trials)
    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-5)


@pytest.mark.parametrize(("rows", "least", "most"), [(200, 0.94, 0.96), (500, 0.94, 0.96), (20, 0.89, 0.99)])
@pytest.mark.parametrize("truth", [0.1, 0.3, 0.5, 0.9])
def test_wilsons_interval_covers_the_truth(rows: int, least: float, most: float, truth: float) -> None:
    draws = np.random.default_rng(1).binomial(rows, truth, TRIALS)
    intervals = {count: wilson(int(count), rows) for count in set(draws.tolist())}
    covered = np.mean([intervals[count].low <= truth <= intervals[count].high for count in draws.tolist()])
    assert least <= covered <= most


def test_mcnemar_is_the_exact_binomial_test() -> None:
    for gained in range(40):
        for lost in range(40):
            changed = gained + lost
            shares = [math.comb(changed, count) / 2**changed for count in range(changed + 1)]
            as_rare = sum(share for share in shares if share <= shares[gained] * (1 + 1e-7))
            assert mcnemar(gained, lost) == pytest.approx(min(1.0, as_rare), abs=1e-12)


@pytest.mark.parametrize(("gained", "lost", "p"), [(9, 1, 0.021484375), (0, 0, 1.0), (5, 5, 1.0), (600, 500, 0.0028)])
def test_mcnemar_has_known_values(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p, abs=5e-5)


def test_base_against_base_is_decided_in_at_most_5_percent_and_20_points_are_found_in_80() -> None:
    draw = np.random.default_rng(2)

    def found(before: float, after: float, alike: float, rows: int) -> float:
        """How often the test decides, where `alike` of the rows have the same answer on both sides."""
        decided = 0
        for _ in range(FEWER):
            first = draw.random(rows) < before
            second = np.where(draw.random(rows) < alike, first, draw.random(rows) < after)
            decided += mcnemar(int((second & ~first).sum()), int((first & ~second).sum())) < statistics.ALPHA
        return decided / FEWER

    assert found(0.6, 0.6, 0.3, 100) <= 0.05
    assert found(0.5, 0.5, 0.0, 300) <= 0.05
    assert found(0.5, 0.7, 0.0, 100) >= 0.78  # independent answers, the hardest case
    for alike in (0.2, 0.4):  # answers that agree on some rows; 20 points over all rows
        assert found(0.4, 0.4 + 0.2 / (1 - alike), alike, 100) >= 0.8


@pytest.mark.parametrize(
    ("conversations", "turns", "alike"),
    [(50, 4, 0.0), (50, 4, 0.3), (200, 1, 0.0)],
    ids=["independent turns", "turns that go together", "one turn"],
)
@pytest.mark.parametrize("truth", [0.1, 0.5])  # 0.9 is 0.1 from the other side
def test_the_bootstraps_interval_covers_the_truth(
    conversations: int, turns: int, truth: float, alike: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`alike`: how much the answers of one conversation go together (intraclass correlation)."""
    monkeypatch.setattr(statistics, "DRAWS", 2000)
    draw = np.random.default_rng(3)
    shares = np.full((conversations, FEWER), truth)
    if alike:
        strength = (1 - alike) / alike
        shares = draw.beta(truth * strength, (1 - truth) * strength, (conversations, FEWER))
    sums = draw.binomial(turns, shares).astype(np.float64)
    sizes = np.full(conversations, float(turns))
    covered = 0
    for block in np.array_split(sums, 40, axis=1):
        low, high = bootstrap(block, sizes)
        covered += int(((low <= truth) & (truth <= high)).sum())
    least = 0.935 if alike and truth == 0.1 else 0.94  # few rows are right, in few conversations: the hardest case
    assert least <= covered / FEWER <= 0.962  # a binomial has steps


def test_the_bootstraps_interval_covers_a_lopsided_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 1000)
    draw = np.random.default_rng(3)
    sums = draw.exponential(0.3, (50, FEWER)) - 0.3 + draw.normal(0, 0.2, (50, FEWER))
    covered = 0
    for block in np.array_split(sums, 40, axis=1):
        low, high = bootstrap(block, np.ones(50))
        covered += int(((low <= 0) & (high >= 0)).sum())
    assert 0.93 <= covered / FEWER <= 0.97


@pytest.mark.parametrize(("conversations", "turns"), [(50, 4), (100, 1)])
def test_the_flips_of_whole_conversations_decide_nothing_in_95_percent(
    conversations: int, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 1000)
    draw = np.random.default_rng(4)
    own = draw.normal(0, 0.3, (conversations, FEWER)) * turns
    p = sign_flips(own + draw.normal(0, 0.2 * turns**0.5, own.shape))
    assert 0.04 <= float((p < statistics.ALPHA).mean()) <= 0.055


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998, table II, method 10
        ((0, 24, 0, 0), 0.80487, 1.0),
        ((0, 23, 0, 1), 0.74649, 0.99261),
        ((24, 0, 0, 0), -0.13798, 0.13798),
        ((0, 0, 1, 0), -1.0, 0.12211),
    ],
)
def test_newcombes_interval_has_known_values(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    both, gained, lost, neither = counts
    found = score_difference(*counts)
    assert [found.low, found.high] == pytest.approx([low, high], abs=6e-5)
    assert found.value == pytest.approx((gained - lost) / sum(counts))
    other = score_difference(both, lost, gained, neither)  # the sides changed places
    assert [-other.high, -other.low] == pytest.approx([found.low, found.high])


@pytest.mark.parametrize("rows", [20, 50, 200])
@pytest.mark.parametrize("gained", [0.9, 0.97, 0.999])
def test_the_interval_covers_the_truth_where_nearly_all_rows_gain(rows: int, gained: float) -> None:
    """There the bootstrap is sure of a single point: of 20 rows that gain at 99.9 % it covers 2 % of the time."""
    chances = [gained, (1 - gained) / 3, 2 * (1 - gained) / 3]
    drawn = np.random.default_rng(8).multinomial(rows, chances, TRIALS)
    counts, times = np.unique(drawn, axis=0, return_counts=True)
    truth, covered = chances[0] - chances[1], 0
    for (more, less, same), often in zip(counts.tolist(), times.tolist(), strict=True):
        found = score_difference(0, more, less, same)
        covered += often * (found.low <= truth <= found.high)
    assert covered / TRIALS >= 0.92


def test_what_was_not_seen_has_room_in_the_interval() -> None:
    assert unseen(24) == pytest.approx(1 - 0.025 ** (1 / 24))
    found = paired_difference([0.0] * 24, [1.0] * 24, range(24)).mean
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - 2 * 0.142474, abs=1e-5)
    same = paired_difference([0.5] * 24, [0.5] * 24, range(24)).mean
    assert [same.low, same.high] == pytest.approx([-0.142474, 0.142474], abs=1e-5)
    both = mean_score([1.0] * 24, [*range(12), *range(12)])  # two rows of each conversation
    assert [both.low, both.high] == pytest.approx([0.025 ** (1 / 12), 1.0])


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 6, 7, 10, 40])
def test_the_interval_of_equal_gains_leaves_zero_out_when_the_exact_test_decides(rows: int) -> None:
    found = paired_difference([0.0] * rows, [1.0] * rows, range(rows)).mean
    assert (found.low > 0) == (mcnemar(rows, 0) < statistics.ALPHA)


@pytest.mark.parametrize("gained", [0.9, 0.99])
def test_the_interval_of_equal_graded_gains_covers_the_truth(gained: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve rows gain half a point, or nothing."""
    monkeypatch.setattr(statistics, "DRAWS", 400)
    drawn = np.random.default_rng(9).binomial(12, gained, TRIALS)
    intervals = {
        int(count): paired_difference([0.2] * 12, [0.7] * count + [0.2] * (12 - count), range(12)).mean
        for count in set(drawn.tolist())
    }
    truth = 0.5 * gained
    covered = sum(intervals[count].low <= truth <= intervals[count].high for count in drawn.tolist())
    assert covered / TRIALS >= (0.89 if gained < 0.95 else 0.95)


def test_many_samples_at_once_give_what_each_gives_alone() -> None:
    draw = np.random.default_rng(6)
    sums, sizes = draw.normal(0.1, 1, (30, 3)), draw.integers(1, 5, 30).astype(np.float64)
    together, flips = bootstrap(sums, sizes), sign_flips(sums)
    for place in range(3):
        assert together[:, place] == pytest.approx(bootstrap(sums[:, place], sizes))
        assert flips[place] == pytest.approx(float(sign_flips(sums[:, place])))


def test_a_loss_is_weighted_by_its_tokens() -> None:
    found = weighted_difference([-10.0, -1.0, -3.0], [10, 1, 1], [1, 2, 3])
    assert found.mean.value == pytest.approx(-14 / 12)
    assert found.mean.low < -14 / 12 < found.mean.high


def test_mcnemar_equals_scipys_binomial_test() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for gained, lost in ((0, 1), (3, 11), (60, 41), (900, 1010)):
        expected = scipy.binomtest(gained, gained + lost, 0.5).pvalue
        assert mcnemar(gained, lost) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.3027),
        (0.975, 9, 2.2622),
        (0.9, 50, 1.2987),
        (0.975, 1000, 1.9623),
        (0.5, 7, 0.0),
    ],
)
def test_students_quantiles_have_known_values(share: float, freedom: int, value: float) -> None:
    assert student_quantile(share, freedom) == pytest.approx(value, abs=2e-4)
    assert student_quantile(1 - share, freedom) == pytest.approx(-value, abs=2e-4)


def test_holms_steps_never_fall_and_end_at_1() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}
    assert holm({}) == {}


def test_rows_needed_grow_with_the_square_of_the_doubt() -> None:
    assert rows_needed(100, 1.4) == 401  # twice the 2.8 standard errors that decide, so four times the rows
    assert rows_needed(100, 0.1) is None
    assert rows_needed(100, -1.4) == 401


def test_the_same_rows_give_the_same_numbers_and_no_rows_give_none() -> None:
    once, again = (paired_difference([0, 1, 0, 1], [1, 1, 0, 1], [1, 1, 2, 3]) for _ in range(2))
    assert once == again
    assert paired_difference([], [], []).p == 1.0
    assert paired_difference([0.0], [1.0], [1]).mean.low == -1.0
