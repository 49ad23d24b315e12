"""What a verdict adds to a job's estimate: its rows, and its time."""

from pathlib import Path

import pytest
from tests.estimate.test_job_estimate import BENCHMARK, rows_file

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.estimate.job_estimate import Hyperparameters, Machine, estimate
from tunesmith.estimate.verdict_time import GENERAL_QUESTIONS, VerdictPlan, read_pace, record_pace
from tunesmith.evals.forgetting import general_questions
from tunesmith.evals.verdict.held_out import verdict_plan
from tunesmith.render.renderer import Renderer


def test_rows_that_are_held_out_are_not_trained(tmp_path: Path, renderer: Renderer) -> None:
    report = check_file(rows_file(tmp_path, 20), CheckOptions(renderer=renderer, max_tokens=2048))
    assert report.base is not None
    machine, numbers = Machine(BENCHMARK, hourly_cost=3.6), Hyperparameters(3, 4, 2.0)
    found = estimate(report, numbers, machine=machine, verdict=VerdictPlan(5, 5))
    trained = round(report.base.tokens * 0.75)
    assert (found.examples, found.held_out, found.exact) == (15, 5, False)
    assert (found.steps_per_epoch, found.total_steps) == (4, 12)
    assert (found.trained_tokens, found.openai_tokens) == (trained * 3, round(report.openai.tokens * 0.75) * 3)
    training = 10 + trained * 3 / 100 + 12 * 0.5
    assert found.verdict_seconds == pytest.approx(training * 15 / 85)
    assert found.seconds == pytest.approx(training / 0.85)
    assert found.local_cost == pytest.approx(training / 850, abs=1e-6)
    assert (found.to_json()["held_out"], found.to_json()["verdict_seconds"]) == (5, found.verdict_seconds)


def test_a_validation_file_takes_no_rows_but_time(tmp_path: Path, renderer: Renderer) -> None:
    report = check_file(rows_file(tmp_path, 20), CheckOptions(renderer=renderer, max_tokens=2048))
    machine, numbers = Machine(BENCHMARK), Hyperparameters(3, 4, 2.0)
    plain = estimate(report, numbers, machine=machine)
    found = estimate(report, numbers, machine=machine, verdict=VerdictPlan(9))
    assert (found.examples, found.trained_tokens, found.exact) == (20, plain.trained_tokens, plain.exact)
    assert plain.verdict_seconds is None
    assert found.seconds == pytest.approx((plain.seconds or 0) / 0.85)


@pytest.mark.parametrize(
    ("rows", "pace", "trained", "seconds"),
    [
        (30, None, 850, 150),  # nothing measured: the share that it may take
        (30, 0.1, 850, 3 + 21.5),  # all questions are asked long before the share is over
        (200, 1.0, 850, 150),  # as many as there is time for
        (30, 1.0, 17, 24 + 24),  # a short job: 24 of each part are asked whatever that takes …
        (10, 1.0, 17, 10 + 24),
        (30, 10.0, 17, 2.1 + 120 + 0.9),  # … but not for more than two minutes beyond the share
    ],
    ids=["unmeasured", "all", "share", "short", "few rows", "slow"],
)
def test_a_verdict_takes_its_share_or_what_a_few_questions_take(
    rows: int, pace: float | None, trained: float, seconds: float
) -> None:
    assert VerdictPlan(rows, pace=pace).seconds(trained) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("asked", "validation", "plan"),
    [
        (None, None, None),
        (False, 9, None),
        (None, 9, VerdictPlan(9)),
        (True, 9, VerdictPlan(9)),
        (True, None, VerdictPlan(25, 25)),
        (0.1, None, VerdictPlan(10, 10)),
    ],
    ids=["no rows", "refused", "validation", "both", "ours", "tenth"],
)
def test_a_jobs_options_say_which_rows(asked: float | bool | None, validation: int | None, plan: object) -> None:
    assert verdict_plan(asked, 100, validation) == plan


def test_few_rows_are_warned_of() -> None:
    assert VerdictPlan(20).few_warning is None
    assert str(VerdictPlan(1, 1).few_warning).startswith("The verdict is to be made on 1 row: that is too few to tell")
    assert "19 rows" in str(VerdictPlan(19).few_warning)


def test_the_pace_of_the_latest_verdict_is_kept(tmp_path: Path) -> None:
    assert read_pace(tmp_path, "a/base") is None
    record_pace(tmp_path, "a/base", 7, 70.0)  # too few to tell
    assert read_pace(tmp_path, "a/base") is None
    record_pace(tmp_path, "a/base", 50, 25.0)
    assert (read_pace(tmp_path, "a/base"), read_pace(tmp_path, "another")) == (0.5, None)


def test_the_general_questions_are_as_many_as_are_counted() -> None:
    assert len(general_questions()) == GENERAL_QUESTIONS
