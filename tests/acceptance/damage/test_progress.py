"""A run whose saved state is damaged goes on from the newest that is whole, and says from which."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.damage.ways import WAYS, garbage
from tests.train.test_run import StopAfter, final_adapter, of_type, stopped, train

from tunesmith.jsonvalue import JsonObject
from tunesmith.train.adapters.checkpoint import RunFiles
from tunesmith.train.adapters.progress import Origin, load_progress
from tunesmith.train.fingerprint import spec_fingerprint
from tunesmith.train.protocol.spec import TrainSpec

Make = Callable[..., TrainSpec]
Way = Callable[[Path], None]
PROGRESS_FILES = ("state.json", "state.safetensors")
CHECKPOINT_FILES = ("manifest.json", "adapter_model.safetensors")
NEWEST, BEFORE = "step-000005-reported", "step-000004-reported"

each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that needs them keeps an undisturbed run, and a stopped one."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def expected(make_spec: Make, kept: Path) -> bytes:
    """The adapter of a run that nothing disturbed."""
    whole = make_spec(output_dir=kept / "whole")
    if not whole.output_dir.exists():
        train(whole)
    return final_adapter(whole)


@pytest.fixture
def interrupted(make_spec: Make, kept: Path) -> TrainSpec:
    """Stopped after step 5 of 8; a checkpoint is at step 4, a progress at each step."""
    first, spec = (make_spec(checkpoint_seconds=1e-6, **at) for at in ({"output_dir": kept / "stopped"}, {}))
    if not first.output_dir.exists():
        stopped(first, StopAfter(5))
    shutil.copytree(first.output_dir, spec.output_dir)
    assert sorted(path.name for path in (spec.output_dir / "progress").iterdir()) == [BEFORE, NEWEST]
    return spec


def origin(spec: TrainSpec) -> Origin:
    return load_progress(RunFiles(spec.output_dir), spec_fingerprint(spec))


def warnings_of(events: list[JsonObject]) -> list[str]:
    return [str(event["message"]) for event in of_type(events, "log") if event["level"] == "warn"]


def damage_progress(spec: TrainSpec) -> None:
    for step in (NEWEST, BEFORE):
        garbage(spec.output_dir / "progress" / step / "state.json")


@each_way
@pytest.mark.parametrize("name", PROGRESS_FILES)
def test_a_damaged_progress_is_passed_over_for_the_older_one(interrupted: TrainSpec, name: str, way: Way) -> None:
    way(interrupted.output_dir / "progress" / NEWEST / name)
    found = origin(interrupted)
    assert (found.step, found.progress is not None) == (4, True)
    assert found.notice is not None
    assert found.notice.startswith(f"The saved progress is damaged: {NEWEST} ({name}")
    assert found.notice.endswith("Training goes on from an older progress, after step 4")
    assert not (interrupted.output_dir / "progress" / NEWEST).exists()  # or step 5 would not be saved again


@each_way
@pytest.mark.parametrize("name", PROGRESS_FILES)
def test_without_any_progress_the_newest_checkpoint_is_taken(interrupted: TrainSpec, name: str, way: Way) -> None:
    for step in (NEWEST, BEFORE):
        way(interrupted.output_dir / "progress" / step / name)
    found = origin(interrupted)
    assert (found.step, found.progress) == (4, None)
    assert found.checkpoint is not None
    assert found.checkpoint.directory == interrupted.output_dir / "checkpoints" / "step-000004"


@each_way
@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_without_a_whole_checkpoint_the_start_is_taken(interrupted: TrainSpec, name: str, way: Way) -> None:
    damage_progress(interrupted)
    way(interrupted.output_dir / "checkpoints" / "step-000004" / name)
    found = origin(interrupted)
    assert (found.step, found.progress, found.checkpoint) == (0, None, None)
    assert found.notice is not None
    assert found.notice.endswith("Training goes on from the start")


def test_a_checkpoint_of_another_run_is_not_gone_on_from(interrupted: TrainSpec) -> None:
    damage_progress(interrupted)
    assert load_progress(RunFiles(interrupted.output_dir), "another's").step == 0


def test_a_run_with_a_damaged_progress_ends_as_an_undisturbed_one(interrupted: TrainSpec, expected: bytes) -> None:
    garbage(interrupted.output_dir / "progress" / NEWEST / "state.safetensors")
    events = train(interrupted)
    assert of_type(events, "started")[0]["resumed_from_step"] == 4
    assert len(warnings_of(events)) == 1
    assert final_adapter(interrupted) == expected


def test_a_run_that_goes_on_from_a_checkpoint_trains_the_steps_after_it(interrupted: TrainSpec) -> None:
    damage_progress(interrupted)
    events = train(interrupted)
    assert of_type(events, "started")[0]["resumed_from_step"] == 4
    (warning,) = warnings_of(events)
    assert warning.endswith(
        "Training goes on from its newest checkpoint, after step 4; the optimizer begins anew there"
    )
    steps = of_type(events, "step")
    assert [step["step"] for step in steps] == list(range(1, 9))  # 1 to 4 are told again, 5 to 8 trained
    tokens = [int(str(step["trained_tokens"])) for step in steps]
    assert tokens[-1] == 2 * tokens[3]  # two epochs of four steps
    assert float(str(steps[4]["train_loss"])) < float(str(steps[0]["train_loss"]))  # not from the start


def test_a_run_without_anything_whole_begins_again(interrupted: TrainSpec, expected: bytes) -> None:
    damage_progress(interrupted)
    shutil.rmtree(interrupted.output_dir / "checkpoints")
    events = train(interrupted)
    assert of_type(events, "started")[0]["resumed_from_step"] == 0
    assert final_adapter(interrupted) == expected


@each_way
def test_what_else_a_run_keeps_may_be_damaged(interrupted: TrainSpec, expected: bytes, way: Way) -> None:
    for pattern in ("journal.jsonl", "plan-*.json"):
        (path,) = interrupted.output_dir.glob(pattern)
        way(path)
    events = train(interrupted)
    assert of_type(events, "started")[0]["resumed_from_step"] == 5
    assert [step["step"] for step in of_type(events, "step")][-3:] == [6, 7, 8]
    assert final_adapter(interrupted) == expected


def test_a_backup_in_the_middle_of_a_save_has_the_progress_before(interrupted: TrainSpec) -> None:
    progress = interrupted.output_dir / "progress"
    (progress / NEWEST).rename(progress / f".{NEWEST}.partial")
    (progress / f".{NEWEST}.partial" / "state.json").unlink()
    assert (origin(interrupted).step, origin(interrupted).notice) == (4, None)
    shutil.rmtree(progress)
    assert (origin(interrupted).step, origin(interrupted).notice) == (0, None)


def test_damaged_reference_probabilities_are_computed_again(
    make_spec: Make, preference_file: Path, tmp_path: Path
) -> None:
    values = {"method": "dpo", "training_file": preference_file, "batch_size": 2, "checkpoint_seconds": 1e-6}
    whole, spec = make_spec(output_dir=tmp_path / "whole", **values), make_spec(**values)
    train(whole)
    stopped(spec, StopAfter(2))
    (path,) = spec.output_dir.glob("references-training-*.json")
    garbage(path)
    train(spec)
    assert final_adapter(spec) == final_adapter(whole)
