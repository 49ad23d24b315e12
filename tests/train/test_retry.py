"""A step for which the memory is too small: once more in smaller pieces, with the same numbers, then a sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
import torch

from tunesmith.system.memory import is_out_of_memory
from tunesmith.train import __main__ as trainer
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.core.packing import TokenRow, added_tokens
from tunesmith.train.loop import Run
from tunesmith.train.objective import BatchResult, Preference, Supervised
from tunesmith.train.paths.scoring import Scorer, Scores
from tunesmith.train.protocol.events import Event, Failed, Log, Started, Step
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import Ranks
from tunesmith.train.ranks.place import Place
from tunesmith.train.retry import OutOfMemory, retried
from tunesmith.train.start import start

Make = Callable[..., TrainSpec]
GPU_WORDS = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.15 GiB."


@dataclass
class SmallDevice:
    """A scorer on a device with room for so many tokens."""

    scorer: Scorer
    room: int
    sizes: list[int] = field(default_factory=list)  # of all that was asked for

    def score(self, rows: Sequence[TokenRow]) -> Scores:
        ordered = sorted(rows, key=lambda row: row.ids)
        self.sizes.append(added_tokens((), ordered))
        scores = self.scorer.score(rows)
        if self.sizes[-1] > self.room:  # as where the last of a forward pass does not fit
            raise torch.OutOfMemoryError(GPU_WORDS)
        return scores


def begun(spec: TrainSpec, room: int | None, most: int = 8192) -> tuple[Run, list[Event]]:
    """A run of which nothing larger than `most` goes through the model at once, on such a device."""
    events: list[Event] = []
    run = start(spec, events.append, Interrupt())
    assert isinstance(run.objective, Supervised | Preference)
    scorer = run.objective.scorer if room is None else SmallDevice(run.objective.scorer, room)
    run.objective = replace(run.objective, scorer=scorer, micro_batch_tokens=most, enough_tokens=most)
    return run, events


def measures(events: list[Event]) -> list[tuple[float, float | None, float | None]]:
    return [(event.train_loss, event.grad_norm, event.valid_loss) for event in events if isinstance(event, Step)]


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_step_is_computed_again_in_halves_and_the_run_ends_as_one_of_such_pieces(
    make_spec: Make, tmp_path: Path, dropout: float
) -> None:
    changes = {"batch_size": 10, "n_epochs": 3, "lora_dropout": dropout}
    run, events = begun(make_spec(output_dir=tmp_path / "short", **changes), room=150)
    run.train()
    scorer = run.objective.scorer  # type: ignore[attr-defined]
    largest, half = scorer.sizes[0], run.objective.micro_batch_tokens  # type: ignore[attr-defined]
    assert largest > 150 >= half == largest // 2
    assert [size for size in scorer.sizes if size > half] == [largest]  # only once
    (told,) = [event.message for event in events if isinstance(event, Log) and event.level == "warn"]
    assert told.startswith("Step 1 did not fit into memory")
    alike, expected = begun(make_spec(output_dir=tmp_path / "alike", **changes), room=None, most=half)
    alike.train()
    assert measures(events) == measures(expected)
    one, other = (cast(Adapter, trained.trainable).flat for trained in (run, alike))
    assert torch.equal(one, other)


def test_pairs_and_validation_are_retried_too(make_spec: Make, preference_file: Path) -> None:
    spec = make_spec(method="dpo", beta=0.1, training_file=preference_file, validation_file=preference_file)
    run, events = begun(replace(spec, batch_size=1), room=110)
    run.train()
    warned = [event.message for event in events if isinstance(event, Log) and event.level == "warn"]
    assert [message.split(" did")[0] for message in warned] == ["The validation after step 1"]
    assert run.step == 8


def test_a_row_that_never_fits_is_named(make_spec: Make) -> None:
    run, _ = begun(make_spec(), room=20)
    with pytest.raises(
        OutOfMemory, match=r"^Step 1 does not fit into memory, .* longest row is line \d+, with \d\d "
    ) as c:
        run.train()
    assert c.value.code == "out_of_memory"


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_each_rank_halves_its_own_share(make_spec: Make, preference_file: Path, method: str) -> None:
    dpo = {"method": "dpo", "beta": 0.1, "training_file": preference_file} if method == "dpo" else {}
    run, events = begun(make_spec(**dpo, batch_size=8), room=None)
    assert isinstance(run.objective, Supervised | Preference)
    (batch, *_) = run.sampler.batches(after_step=0)
    whole, sums = run.objective.backward(batch), list[BatchResult]()
    for rank in range(2):
        scorer = SmallDevice(run.objective.scorer, room=0)
        objective = replace(run.objective, scorer=scorer, ranks=Ranks(Place(rank, 2)))
        with pytest.raises(torch.OutOfMemoryError):
            objective.backward(batch)
        scorer.room = scorer.sizes[0] - 1
        smaller, share = retried(
            objective, lambda chosen: chosen.backward(batch), batch.examples, "Step 1", events.append
        )
        assert isinstance(smaller, Supervised | Preference)
        assert smaller.micro_batch_tokens == scorer.sizes[0] // 2  # not of the whole batch's largest part
        sums.append(share)
    assert sum(share.loss for share in sums) == pytest.approx(whole.loss, rel=1e-5)
    assert sum(share.counted for share in sums) == whole.counted
    if method == "supervised":  # an untrained model prefers neither answer but by rounding
        assert sum(share.right for share in sums) == whole.right


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError(GPU_WORDS), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("HIP is full"), True),  # of a library of its own
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (MemoryError(), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("out of memory"), False),
    ],
    ids=lambda value: str(value)[:24] or "MemoryError",
)
def test_every_way_to_say_that_memory_is_short_is_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_memory_that_is_short_before_the_first_step_is_told_in_a_sentence(make_spec: Make, tmp_path: Path) -> None:
    make_spec().write(tmp_path / "spec.json")
    failures: list[Failed] = []

    def listen(event: Event) -> None:
        if isinstance(event, Started):
            raise torch.OutOfMemoryError(GPU_WORDS)
        if isinstance(event, Failed):
            failures.append(event)

    assert trainer._Trainer(listen, Interrupt()).run(tmp_path / "spec.json") == 1
    (failed,) = failures
    assert failed.code == "out_of_memory"
    assert failed.message == (
        f"The trainer ran out of memory ({GPU_WORDS[:-1]}). Free some, take a smaller base, or shorten the rows."
    )
