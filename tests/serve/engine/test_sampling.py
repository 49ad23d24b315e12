import math
from collections import Counter

import pytest
import torch

from tunesmith.errors import ServerFault
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.engine.sampling import Sampler

PROBABILITIES = torch.tensor([0.5, 0.3, 0.15, 0.05])
LOGITS = torch.log(PROBABILITIES)


def sampler(**values: object) -> Sampler:
    return Sampler(GenerateRequest((1,), 10, frozenset(), **{"seed": 1, **values}), 0)  # type: ignore[arg-type]


def shares(count: int = 4000, **values: object) -> list[float]:
    drawn = sampler(**values)
    counts = Counter(drawn.next(LOGITS)[0] for _ in range(count))
    return [counts[token] / count for token in range(4)]


def test_temperature_one_draws_the_models_own_shares() -> None:
    assert shares() == pytest.approx(PROBABILITIES.tolist(), abs=0.03)


def test_a_low_temperature_sharpens_as_the_formula_says() -> None:
    expected = torch.softmax(LOGITS / 0.5, dim=0).tolist()
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
    seen = {drawn.next(torch.linspace(0.001, 0, 1000))[0] for _ in range(8000)}
    assert max(seen) in range(880, 901)


def test_a_temperature_next_to_zero_is_greedy() -> None:
    assert shares(count=10, temperature=1e-38) == [1, 0, 0, 0]


def test_a_diverged_model_says_so_instead_of_babbling() -> None:
    broken = torch.tensor([0.0, float("nan"), 0.0])
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
