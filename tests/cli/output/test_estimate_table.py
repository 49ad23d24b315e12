"""An estimate in a terminal: what is known is shown, what is not is said."""

from dataclasses import replace

import pytest
from tests.cli.output.conftest import Printed, widest, words

from tunesmith.check.report.file_report import Report
from tunesmith.cli.bases import LocalBase
from tunesmith.cli.output.estimate_table import print_estimate
from tunesmith.estimate.job_estimate import AnswersCost, Estimate, Machine, estimate, resolve_hyperparameters
from tunesmith.estimate.prices import Price
from tunesmith.estimate.speed import Benchmark

MEASURED = Benchmark("smollm2-135m-instruct", "a machine", 100.0, 0.5, 10.0, 1_000_000_000, 1_000.0)


@pytest.fixture
def guess(checked: Report) -> Estimate:
    return estimate(checked, resolve_hyperparameters({"n_epochs": 2}, checked))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_estimate_fits_and_says_the_same_at_any_width(
    printed: Printed, checked: Report, guess: Estimate, local: LocalBase, width: int
) -> None:
    shown = printed(width, print_estimate, checked, guess, local)
    assert widest(shown) <= width
    said = words(shown)
    assert said.startswith("weather-jokes.jsonl 12 rows on smollm2-135m-instruct")
    for part in ("epochs 2", "24 (12 an epoch)", "1,794 tokens", "$0.01158: 1,448 tokens", "add --measure"):
        assert part in said


def test_beta_is_shown_where_the_method_has_one(
    printed: Printed, checked: Report, guess: Estimate, local: LocalBase
) -> None:
    plain = words(printed(200, print_estimate, checked, guess, local))
    assert "learning rate 2 x the base rate steps" in plain
    known = words(printed(200, print_estimate, checked, guess, local, 2.5e-4))
    assert "learning rate 2 x the base rate (= 5e-4) steps" in known
    tuned = replace(guess, hyperparameters=replace(guess.hyperparameters, beta=0.1, learning_rate_multiplier=1.8))
    assert "learning rate 1.8 x the base rate, beta 0.1 steps" in words(
        printed(200, print_estimate, checked, tuned, local)
    )


def test_measured_machine_gives_time_memory_and_cost(printed: Printed, checked: Report, local: LocalBase) -> None:
    numbers = resolve_hyperparameters({"n_epochs": 2}, checked)
    found = estimate(checked, numbers, machine=Machine(MEASURED, hourly_cost=3.6))
    said = words(printed(200, print_estimate, checked, found, local))
    assert "time about 40s on this machine memory" in said  # 10 + 1,794 tokens / 100 + 24 steps x 0.5 = 39.94 s
    assert "GB at the peak" in said
    assert "on this machine training $0.03994; answers have no price" in said
    assert "--measure" not in said
    free = words(printed(200, print_estimate, checked, replace(found, local_cost=None), local))
    assert "on this machine no price, only its time and power; for dollars add --hourly-cost" in free


def test_missing_weights_leave_openais_price(printed: Printed, checked: Report, absent: LocalBase) -> None:
    uncounted = replace(checked, base=None)
    found = estimate(uncounted, resolve_hyperparameters({"n_epochs": 1}, uncounted))
    said = words(printed(200, print_estimate, uncounted, found, absent))
    assert "trained here smollm2-135m-instruct is not here to count: tunesmith models pull" in said
    assert "at OpenAI training $0.00579: 724 tokens at $8.00 a million" in said
    assert "--measure" not in said


def test_sampled_counts_are_about(printed: Printed, checked: Report, guess: Estimate, local: LocalBase) -> None:
    assert "trained here 1,794 tokens" in words(printed(200, print_estimate, checked, guess, local))
    sampled = replace(guess, exact=False)
    assert "trained here about 1,794 tokens" in words(printed(200, print_estimate, checked, sampled, local))


def test_answers_are_priced_by_the_thousand(
    printed: Printed, checked: Report, guess: Estimate, local: LocalBase
) -> None:
    found = replace(guess, answers=AnswersCost(1200.4, 80, 0.455))
    said = words(printed(200, print_estimate, checked, found, local))
    assert "then $0.455 for 1,000 answers (1,200 tokens of prompt and 80 of answer each, as in the file)" in said
    assert "for 1,000 answers" not in printed(200, print_estimate, checked, replace(guess, answers=None), local)


def test_unknown_price_is_said_and_not_zero(
    printed: Printed, checked: Report, guess: Estimate, local: LocalBase
) -> None:
    unknown = replace(guess, openai_cost=None, price=Price("mine"), answers=AnswersCost(9, 9, None))
    said = words(printed(200, print_estimate, checked, unknown, local))
    assert "training not known: 1,448 tokens, whose price is not known" in said
    assert "then not known for 1,000 answers" in said
    hourly = replace(unknown, price=Price("o4-mini-2025-04-16", training_hour=100.0))
    said = words(printed(200, print_estimate, checked, hourly, local))
    assert "training $100.00 an hour; how long it would take is not known" in said
    assert "$0" not in said
