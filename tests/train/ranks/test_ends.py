"""However a rank ends, the others end too, and say why; what was trained is kept."""

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.train.ranks.conftest import StartRanks, losses
from tests.train.ranks.member import trainer
from tests.train.test_run import final_adapter, of_type

from tunesmith.train.protocol.spec import TrainSpec

Make = Callable[..., TrainSpec]


@pytest.fixture
def make_long(make_spec: Make, tmp_path: Path) -> Make:
    """Runs of a few seconds, that save their progress often."""

    def make(**changes: object) -> TrainSpec:
        return make_spec(**{"n_epochs": 15, "checkpoint_seconds": 0.05, "output_dir": tmp_path / "long", **changes})

    return make


def test_a_killed_rank_interrupts_all_and_no_bit_is_lost(
    make_long: Make, start_ranks: StartRanks, tmp_path: Path
) -> None:
    """Rank 0 is killed, then rank 1 of those that go on; what the third pair ends with is the whole run's."""
    whole = make_long(output_dir=tmp_path / "whole")
    expected = start_ranks(trainer, 2, whole)
    for attempt, killed in enumerate((0, 1), 1):
        run = start_ranks(trainer, 2, make_long(attempt=attempt))
        run.wait_for_step(9 * attempt)
        run.signal(killed, signal.SIGKILL)
        began = time.monotonic()
        codes = run.codes(30.0)
        assert (codes[killed], codes[1 - killed]) == (-signal.SIGKILL, 143)
        assert time.monotonic() - began < 30.0
        said = run.errors(1) if killed == 0 else str(of_type(run.events(), "log")[-1]["message"])
        assert f"Training was interrupted: rank {killed} ended without a word: it was killed" in said
    again = start_ranks(trainer, 2, make_long(attempt=3))
    assert again.codes() == [0, 0]
    assert int(str(of_type(again.events(), "started")[0]["resumed_from_step"])) >= 18
    assert expected.codes() == [0, 0]
    assert final_adapter(make_long()) == final_adapter(whole)
    assert losses(again) == losses(expected)


@pytest.mark.parametrize("ranks", [(0, 1), (1,)], ids=["all", "one"])
def test_sigterm_ends_all_with_the_progress_saved(
    make_long: Make, start_ranks: StartRanks, ranks: tuple[int, ...]
) -> None:
    run = start_ranks(trainer, 2, make_long(checkpoint_seconds=0))
    run.wait_for_step(5)
    for rank in ranks:
        run.signal(rank, signal.SIGTERM)
    assert run.codes(30.0) == [143, 143]
    last = of_type(run.events(), "step")[-1]["step"]
    assert run.events()[-1]["message"] == "Stopped as asked; the progress is saved."
    if ranks == (1,):
        return
    resumed = start_ranks(trainer, 1, make_long(checkpoint_seconds=0))
    assert resumed.codes() == [0]
    assert of_type(resumed.events(), "started")[0]["resumed_from_step"] in (last, int(str(last)) + 1)


def test_another_spec_is_named_with_its_cure(make_spec: Make, start_ranks: StartRanks) -> None:
    run = start_ranks(trainer, 2, make_spec(), make_spec(seed=8))
    assert run.codes() == [1, 1]
    (failed,) = of_type(run.events(), "failed")
    assert str(failed["message"]).startswith(
        "Rank 1 trains another job than rank 0: seed (7 and 8) differ. Start all ranks with the same spec.json, the "
        "same files and the same environment."
    )
    assert (failed["code"], failed["param"]) == ("ranks_differ", "seed")


def test_another_base_is_named(make_spec: Make, start_ranks: StartRanks, stablelm_base: Path) -> None:
    run = start_ranks(trainer, 2, make_spec(), make_spec(base_dir=stablelm_base))
    assert run.codes() == [1, 1]
    assert "the base model's files differ" in str(run.events()[-1]["message"])


def test_what_fails_on_one_rank_fails_the_job_in_its_words(
    make_spec: Make, start_ranks: StartRanks, tmp_path: Path
) -> None:
    spec = make_spec()
    run = start_ranks(trainer, 2, spec, replace(spec, base_dir=tmp_path / "nothing"))
    assert run.codes(30.0) == [1, 1]
    failed = run.events()[-1]
    assert (failed["type"], failed["param"]) == ("failed", "model")
    assert str(failed["message"]).endswith("nothing has no config.json. (Rank 1 says so.)")


def test_a_loss_that_is_no_number_is_said_once(make_spec: Make, start_ranks: StartRanks) -> None:
    run = start_ranks(trainer, 2, make_spec(learning_rate_multiplier=1e30))
    assert run.codes() == [1, 1]
    (failed,) = of_type(run.events(), "failed")
    assert failed["code"] == "non_finite_loss"


def test_a_missing_place_is_named(make_spec: Make, start_ranks: StartRanks) -> None:
    run = start_ranks(trainer, 1, make_spec(), WORLD_SIZE="2", RANK="2")
    assert run.codes() == [1]
    assert "RANK is '2'; with several ranks it has to be a number from 0 to 1" in run.errors(0)
