"""By hand: torchrun starts the ranks of a spec."""

from collections.abc import Callable

from tests.train.ranks.conftest import StartRanks
from tests.train.ranks.member import torchrun
from tests.train.test_run import final_adapter, of_type

from tunesmith.train.protocol.spec import TrainSpec


def test_torchrun_trains_a_spec(make_spec: Callable[..., TrainSpec], start_ranks: StartRanks) -> None:
    spec = make_spec(n_epochs=1)
    run = start_ranks(torchrun, 1, spec, OMP_NUM_THREADS="1")
    assert run.codes(180.0) == [0], run.errors(0)
    assert [step["step"] for step in of_type(run.events(), "step")] == [1, 2, 3, 4]
    assert run.events()[-1]["type"] == "done"
    assert len(final_adapter(spec)) > 1000
