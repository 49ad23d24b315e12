"""An estimate in a terminal: what is known is shown, what is not is said."""

from dataclasses import replace

import pytest
from tests.cli.output.conftest import Printed, widest, words

from tunesmith.check.report.file_report import Report
from tunesmith.cli.bases import LocalBase
from tunesmith.cli.output.estimate_table import print_estimate
from tunesmith.estimate.job_estimate import BreakEven, Estimate, Machine, estimate, resolve_hyperparameters
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
    for part in ("epochs 2", "24 (12 an epoch)", "1,794 tokens", "1,448 tokens, $0.01158", "add --measure"):
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
    assert "time about 40s on this machine, $0.03994" in said  # 10 + 1,794 tokens / 100 + 24 steps x 0.5 = 39.94 s
    assert "GB at the peak" in said
    assert "cost $0.03994 of this machine's time" in said
    assert "--measure" not in said
    free = words(printed(200, print_estimate, checked, replace(found, local_cost=None), local))
    assert "time about 40s on this machine memory" in free
    assert "of this machine's time" not in free


def test_missing_weights_leave_openais_price(printed: Printed, checked: Report, absent: LocalBase) -> None:
    uncounted = replace(checked, base=None)
    found = estimate(uncounted, resolve_hyperparameters({"n_epochs": 1}, uncounted))
    said = words(printed(200, print_estimate, uncounted, found, absent))
    assert "trained here smollm2-135m-instruct is not here to count: tunesmith models pull" in said
    assert "at OpenAI 724 tokens, $0.00579" in said
    assert "--measure" not in said


def test_sampled_counts_are_about(printed: Printed, checked: Report, guess: Estimate, local: LocalBase) -> None:
    assert "trained here 1,794 tokens" in words(printed(200, print_estimate, checked, guess, local))
    sampled = replace(guess, exact=False)
    assert "trained here about 1,794 tokens" in words(printed(200, print_estimate, checked, sampled, local))


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (4321, "pays back after 4,321 calls without the system prompt (15 tokens)"),
        (None, "pays back never at OpenAI's"),
    ],
)
def test_break_even(
    printed: Printed, checked: Report, guess: Estimate, local: LocalBase, calls: int | None, said: str
) -> None:
    found = replace(guess, break_even=BreakEven(15.2, 0.002, 0.001, calls))
    assert said in words(printed(200, print_estimate, checked, found, local))
    assert "pays back" not in printed(200, print_estimate, checked, replace(guess, break_even=None), local)
