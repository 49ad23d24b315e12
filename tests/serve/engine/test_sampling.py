import math
from collections import Counter

import numpy
import pytest

from tunesmith.errors import ServerFault
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.engine.sampling import Sampler

PROBABILITIES = numpy.array([0.5, 0.3, 0.15, 0.05], numpy.float32)
LOGITS = numpy.log(PROBABILITIES)


def sampler(**values: object) -> Sampler:
    return Sampler(GenerateRequest((1,), 10, frozenset(), **{"seed": 1, **values}), 0)  # type: ignore[arg-type]


def shares(count: int = 4000, **values: object) -> list[float]:
    drawn = sampler(**values)
    counts = Counter(drawn.next(LOGITS)[0] for _ in range(count))
    return [counts[token] / count for token in range(4)]


def test_temperature_one_draws_the_models_own_shares() -> None:
    assert shares() == pytest.approx(PROBABILITIES.tolist(), abs=0.03)


def test_a_low_temperature_sharpens_as_the_formula_says() -> None:
    expected = (PROBABILITIES**2 / (PROBABILITIES**2).sum()).tolist()
    assert shares(temperature=0.5) == pytest.approx(expected, abs=0.03)


def test_temperature_zero_takes_the_likeliest() -> None:
    assert shares(count=10, temperature=0.0) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("top_p", "allowed"), [(0.0, {0}), (0.5, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, allowed: set[int]) -> None:
    assert {token for token, share in enumerate(shares(top_p=top_p)) if share} == allowed


def test_top_p_over_a_flat_distribution_reaches_beyond_the_first_try() -> None:
    drawn = sampler(top_p=0.9)
    seen = {drawn.next(numpy.linspace(0.001, 0, 1000, dtype=numpy.float32))[0] for _ in range(8000)}
    assert max(seen) in range(880, 901)


def test_a_temperature_next_to_zero_is_greedy() -> None:
    assert shares(count=10, temperature=1e-38) == [1, 0, 0, 0]


def test_a_diverged_model_says_so_instead_of_babbling() -> None:
    broken = numpy.array([0.0, float("nan"), 0.0], numpy.float32)
    for temperature in (0.0, 1.0):
        with pytest.raises(ServerFault, match="diverged"):
            sampler(temperature=temperature).next(broken)


def test_penalties_lower_what_was_said_before() -> None:
    drawn = sampler(temperature=0.0, frequency_penalty=1.0)
    assert [drawn.next(LOGITS)[0] for _ in range(4)] == [0, 1, 0, 2]


def test_presence_penalty_counts_a_token_once() -> None:
    drawn = sampler(temperature=0.0, presence_penalty=2.0)
    assert [drawn.next(LOGITS)[0] for _ in range(5)] == [0, 1, 2, 0, 0]


def test_logprobs_ignore_temperature_and_bias() -> None:
    token, logprob, top = sampler(temperature=0.0, logit_bias=((3, 100.0),), top_logprobs=2).next(LOGITS)
    assert token == 3
    assert logprob == pytest.approx(math.log(0.05), abs=1e-5)
    assert [entry[0] for entry in top] == [0, 1]


def test_log_probabilities_are_those_of_float64() -> None:
    """Of 49,152 logits: sums in float32 were off by 3e-5."""
    logits = numpy.random.default_rng(0).standard_normal(49_152, dtype=numpy.float32) * 3
    wide = logits.astype(numpy.float64)
    expected = wide - wide.max() - math.log(numpy.exp(wide - wide.max()).sum())
    _, logprob, top = sampler(temperature=0.0, top_logprobs=20).next(logits)
    order = numpy.argsort(-wide)[:20]
    assert [token for token, _ in top] == order.tolist()
    assert logprob == pytest.approx(expected[order[0]], abs=2e-7 * abs(expected[order[0]]))
    assert [value for _, value in top] == pytest.approx(expected[order].tolist(), abs=2e-6)
