"""Several ranks come to the loss and the adapter of one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from tests.train.ranks.conftest import Started, StartRanks, losses
from tests.train.ranks.member import exact, trainer
from tests.train.test_run import final_adapter, of_type

from tunesmith.jsonvalue import JsonObject
from tunesmith.train.protocol.spec import TrainSpec

TOGETHER = "ranks train this run together; each takes its part of every step's rows."

Make = Callable[..., TrainSpec]
SUMS = ("train_loss", "grad_norm", "valid_loss", "full_valid_loss")
ROWS = ("train_mean_token_accuracy", "valid_mean_token_accuracy", "full_valid_mean_token_accuracy", "trained_tokens")


def values(started: Started, rank: int = 0) -> "numpy.typing.NDArray[numpy.float64]":
    found: numpy.typing.NDArray[numpy.float64] = numpy.load(started.outputs[rank].with_suffix(".npy"))
    assert found.dtype == numpy.float64
    return found


def assert_same_steps(one: list[JsonObject], other: list[JsonObject]) -> None:
    mine, theirs = of_type(one, "step"), of_type(other, "step")
    assert [step["step"] for step in mine] == [step["step"] for step in theirs] == list(range(1, 7))
    for step, expected in zip(mine, theirs, strict=True):
        assert step.keys() == expected.keys()
        for name in SUMS:
            assert step.get(name) == pytest.approx(expected.get(name), abs=1e-6)
        counted = ROWS if step["step"] != 1 else ROWS[1:]  # an untrained model prefers neither answer but by rounding
        assert [step.get(name) for name in counted] == [expected.get(name) for name in counted]


@pytest.fixture(params=["supervised", "dpo"])
def make_run(request: pytest.FixtureRequest, make_spec: Make, preference_file: Path, chat_file: Path) -> Make:
    """Six steps; the last of each epoch has fewer rows than there are ranks."""

    def make(**changes: object) -> TrainSpec:
        dpo = {"method": "dpo", "beta": 0.5, "batch_size": 3, "n_epochs": 3, "training_file": preference_file}
        supervised = {"batch_size": 4, "validation_file": chat_file, "validate_every": 2}
        chosen = {**dpo, "validation_file": preference_file} if request.param == "dpo" else supervised
        return make_spec(**{**chosen, "base_learning_rate": 5e-3, **changes})

    return make


def test_two_and_three_ranks_agree_with_one(make_run: Make, start_ranks: StartRanks, tmp_path: Path) -> None:
    runs = [start_ranks(exact, size, make_run(output_dir=tmp_path / str(size))) for size in (1, 2, 3)]
    assert [run.codes() for run in runs] == [[0], [0, 0], [0, 0, 0]]
    one, *others = runs
    for run in others:
        assert_same_steps(run.events(), one.events())
        assert abs(values(run) - values(one)).max() < 1e-6
        assert all((values(run, rank) == values(run)).all() for rank in range(len(run.processes)))
    assert abs(values(one)).max() > 1e-3  # it has learned something


def test_two_ranks_that_were_stopped_go_on_as_another_number(
    make_run: Make, start_ranks: StartRanks, tmp_path: Path
) -> None:
    whole = start_ranks(exact, 1, make_run(output_dir=tmp_path / "whole"))
    spec = make_run()
    size = 1 if spec.method == "dpo" else 3
    stopped = start_ranks(exact, 2, spec, STOP_AFTER="4")
    assert stopped.codes() == [143, 143]
    resumed = start_ranks(exact, size, spec)
    assert resumed.codes() == [0] * size
    assert of_type(resumed.events(), "started")[0]["resumed_from_step"] == 4
    assert whole.codes() == [0]
    assert_same_steps(resumed.events(), whole.events())
    assert abs(values(resumed) - values(whole)).max() < 1e-6


def test_equal_ranks_give_equal_bits(make_spec: Make, start_ranks: StartRanks, tmp_path: Path) -> None:
    specs = [make_spec(output_dir=tmp_path / name, lora_dropout=0.1) for name in ("one", "other")]
    runs = [start_ranks(trainer, 2, spec) for spec in specs]
    assert [run.codes() for run in runs] == [[0, 0], [0, 0]]
    assert final_adapter(specs[0]) == final_adapter(specs[1])
    assert losses(runs[0]) == losses(runs[1])


def test_all_weights_agree_too(make_spec: Make, start_ranks: StartRanks, tmp_path: Path) -> None:
    changes = {"adapter": "none", "base_learning_rate": 1e-4}
    runs = [start_ranks(trainer, size, make_spec(output_dir=tmp_path / str(size), **changes)) for size in (1, 2)]
    assert [run.codes() for run in runs] == [[0], [0, 0]]
    mine, theirs = (of_type(run.events(), "step") for run in runs)
    for step, expected in zip(mine, theirs, strict=True):
        assert step["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert step["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)


def test_the_events_are_those_of_one_rank(make_spec: Make, start_ranks: StartRanks, tmp_path: Path) -> None:
    spec = make_spec()
    alone = start_ranks(trainer, 1, spec)
    assert alone.codes() == [0]
    files = sorted(path.relative_to(spec.output_dir) for path in spec.output_dir.rglob("*"))
    shutil.rmtree(spec.output_dir)
    together = start_ranks(trainer, 3, spec)
    assert together.codes() == [0, 0, 0]
    assert [together.events(1), together.events(2), together.errors(1)] == [[], [], ""]
    assert sorted(path.relative_to(spec.output_dir) for path in spec.output_dir.rglob("*")) == files
    more: JsonObject = {"type": "log", "level": "info", "message": f"3 {TOGETHER}"}
    assert together.events().count(more) == 1
    for one, other in zip(alone.events(), [event for event in together.events() if event != more], strict=True):
        if one["type"] in ("started", "done", "log"):
            assert one == other
        assert (one.keys(), one["type"], one.get("step")) == (other.keys(), other["type"], other.get("step"))
