"""Ranks that each have a part of the weights come to the loss and the weights of one that has all."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file
from tests.train.ranks.conftest import Started, StartRanks
from tests.train.ranks.member import exact, output_of, trainer
from tests.train.ranks.test_sums import assert_same_steps
from tests.train.test_run import of_type

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.train.core.device import Device
from tunesmith.train.protocol.events import parse_events
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import Ranks
from tunesmith.train.ranks.place import Place
from tunesmith.train.sharding.choice import is_sharded, require_share
from tunesmith.train.sharding.gather import Cut

Make = Callable[..., TrainSpec]
KINDS = ("weights", "pairs", "adapter", "again", "tree")


@pytest.fixture
def make(make_spec: Make, chat_file: Path, preference_file: Path, tmp_path: Path) -> Make:
    """Six steps; the last of each epoch has fewer rows than three ranks.

    The base's own modules make norms in float32, the fused ones of one rank in float64: all but "tree" run on padded
    rows, where both take the former.
    """

    def make(kind: str, name: str, **changes: object) -> TrainSpec:
        rows: dict[str, object] = {"batch_size": 4, "validation_file": chat_file, "validate_every": 2}
        if kind == "pairs":
            rows = {"method": "dpo", "beta": 0.5, "n_epochs": 3, "training_file": preference_file}
        adapter = {"adapter": "lora", "base_learning_rate": 5e-3} if kind == "adapter" else {"adapter": "none"}
        decay = {"weight_decay": 0.1, "max_grad_norm": 0.5}  # far below the norms of these gradients
        values = {"base_learning_rate": 1e-3, "packing": kind == "tree", **decay, **rows, **adapter, **changes}
        return make_spec(output_dir=tmp_path / f"{kind}-{name}", **values)

    return make


def start_all(start: StartRanks, size: int, make: Make, tmp_path: Path, **changes: object) -> Started:
    """One group of ranks that trains all kinds of runs one after another."""
    first, *others = [make(kind, str(size), **changes) for kind in KINDS]
    for kind, spec in zip(KINDS[1:], others, strict=True):
        spec.write(tmp_path / f"{kind}-{size}.json")
    return start(exact, size, first, ALSO=" ".join(str(tmp_path / f"{kind}-{size}.json") for kind in KINDS[1:]))


def values(run: Started, kind: str, rank: int = 0) -> "numpy.typing.NDArray[numpy.float64]":
    path = output_of(run.outputs[rank], KINDS.index(kind)).with_suffix(".npy")
    return numpy.asarray(numpy.load(path))


def events(run: Started, kind: str) -> list[JsonObject]:
    text = output_of(run.outputs[0], KINDS.index(kind)).with_suffix(".events").read_text("utf-8")
    return [event.to_json() for event in parse_events(text)]


def losses_of(run: Started) -> list[object]:
    return [event["train_loss"] for event in of_type(events(run, "tree"), "step")]


def test_two_and_three_ranks_with_a_part_each_agree_with_one(
    make: Make, start_ranks: StartRanks, tmp_path: Path
) -> None:
    one = start_all(start_ranks, 1, make, tmp_path)
    others = [start_all(start_ranks, size, make, tmp_path, sharding="full") for size in (2, 3)]
    assert one.codes() == [0]
    for run in others:
        assert run.codes() == [0] * len(run.processes), [run.errors(0), run.errors(1)]
        for kind in KINDS:
            if kind == "tree":
                assert losses_of(run) == pytest.approx(losses_of(one), rel=1e-5)
                continue
            assert_same_steps(events(run, kind), events(one, kind))
            assert abs(values(run, kind) - values(one, kind)).max() < 1e-6
        assert (values(run, "weights") == values(run, "again")).all()  # equal ranks, equal bits
        assert all((values(run, "adapter", rank) == values(run, "adapter")).all() for rank in range(len(run.processes)))
        said = [str(event["message"]) for event in of_type(events(run, "tree"), "log")]
        assert any(f"a part of each by each of {len(run.processes)} ranks" in text for text in said)
        assert any("the weights are shared out among the ranks" in text for text in said)
    assert abs(values(one, "weights") - values(one, "pairs")).max() > 1e-3  # they have learned something
    mine, theirs = (load_file(tmp_path / f"weights-{size}" / "adapter" / "model.safetensors") for size in (1, 3))
    assert mine.keys() == theirs.keys()
    assert all((mine[name] - theirs[name]).abs().max() < 1e-6 for name in mine)
    names = [sorted(path.name for path in (tmp_path / f"weights-{size}" / "adapter").iterdir()) for size in (1, 3)]
    assert names[0] == names[1]


def timeless(event: JsonObject) -> JsonObject:
    """Without what a rank does not know that has trained no step yet, and reports that of the one before it."""
    return {name: value for name, value in event.items() if name != "seconds_left"}


@pytest.mark.parametrize(
    ("before", "after"),
    [((2, "full"), (3, "full")), ((2, "full"), (1, "none")), ((1, "none"), (2, "full"))],
    ids=["2-3", "2-whole", "whole-2"],
)
def test_a_stopped_run_goes_on_with_other_parts(
    make: Make, start_ranks: StartRanks, tmp_path: Path, before: tuple[int, str], after: tuple[int, str]
) -> None:
    whole = start_ranks(exact, 1, make("weights", "whole"))
    stopped = start_ranks(exact, before[0], make("weights", "run", sharding=before[1]), STOP_AFTER="3")
    assert stopped.codes() == [143] * before[0]
    resumed = start_ranks(exact, after[0], make("weights", "run", sharding=after[1]))
    assert resumed.codes() == [0] * after[0], resumed.errors(0)
    assert of_type(resumed.events(), "started")[0]["resumed_from_step"] in (3, 4)  # a sharded step is finished first
    assert whole.codes() == [0]
    assert_same_steps(*([timeless(event) for event in run.events()] for run in (resumed, whole)))
    assert abs(values(resumed, "weights") - values(whole, "weights")).max() < 1e-6


def test_a_killed_rank_ends_all_and_the_saved_progress_is_kept(
    make: Make, start_ranks: StartRanks, tmp_path: Path
) -> None:
    changes = {"sharding": "full", "checkpoint_seconds": 0.01, "n_epochs": 12}
    whole = start_ranks(trainer, 2, make("weights", "whole", **changes))
    run = start_ranks(trainer, 2, make("weights", "run", **changes))
    run.wait_for_step(5)
    run.signal(1, signal.SIGKILL)
    assert run.codes(30.0) == [143, -signal.SIGKILL]
    said = str(of_type(run.events(), "log")[-1]["message"])
    assert said.startswith("Training was interrupted: rank 1 ended without a word")
    kept = int(said.partition("the progress after step ")[2].partition(" is kept")[0])
    again = start_ranks(trainer, 2, make("weights", "run", attempt=2, **changes))
    assert again.codes() == [0, 0]
    assert of_type(again.events(), "started")[0]["resumed_from_step"] == kept > 0
    assert whole.codes() == [0, 0]
    files = [tmp_path / f"weights-{name}" / "adapter" / "model.safetensors" for name in ("run", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_base_in_four_bits_is_refused_with_its_cure(make_spec: Make) -> None:
    spec = make_spec(quantization="nf4", sharding="full")
    with pytest.raises(
        InvalidRequest, match=r"cannot be shared out among ranks\. Set train_sharding to 'auto'"
    ) as found:
        is_sharded(spec, Device("cpu", torch.float32), Ranks(Place(0, 2)))
    assert found.value.param == "tunesmith.quantization"
    assert not is_sharded(spec, Device("cpu", torch.float32), Ranks())


class Small(Device):
    """A device with little memory."""

    def free_memory(self) -> int:
        return 1000


def test_a_part_that_does_not_fit_is_said(make_spec: Make) -> None:
    with pytest.raises(InvalidRequest, match=r"Each of 2 ranks takes .* Start more ranks, take a smaller base"):
        require_share(make_spec(adapter="none"), Small("cpu", torch.float32), Ranks(Place(0, 2)))


@pytest.mark.parametrize(
    ("rows", "ranks", "expected"),
    [(5, 2, [(0, 3), (3, 5)]), (1, 3, [(0, 1), (1, 1), (1, 1)]), (4, 3, [(0, 2), (2, 4), (4, 4)])],
    ids=["uneven", "one row", "a rank without"],
)
def test_rows_are_cut_into_pieces_of_one_size(rows: int, ranks: int, expected: list[tuple[int, int]]) -> None:
    """As torch.chunk cuts, and so FSDP."""
    cut = Cut((rows, 7), ranks)
    found = [cut.slice_of(rank) for rank in range(ranks)]
    assert [(one.start, one.stop) for one in found] == expected
    whole = torch.arange(rows * 7).view(rows, 7)
    for piece, here in zip(whole.chunk(ranks), found, strict=False):
        assert torch.equal(piece, whole[here])
