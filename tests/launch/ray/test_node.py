"""What a node does, called as Ray would call it."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.launch.ray.conftest import base_of

from tunesmith import __version__
from tunesmith.launch.protocol import Start
from tunesmith.launch.ranks import Team
from tunesmith.launch.ray import files as files_module
from tunesmith.launch.ray import node as node_module
from tunesmith.launch.ray.node import READ_BYTES, NodeTrainer, Outbox, Tail
from tunesmith.launch.ray.order import Bucket as Place
from tunesmith.launch.ray.order import NodeOrder, Part
from tunesmith.launch.ray.transfer import put_inputs
from tunesmith.store.storage.bucket import Bucket, StorageUnavailable, open_bucket
from tunesmith.store.storage.model_folders import BucketFolders


@pytest.fixture
def order(start: Start, data_dir: Path) -> NodeOrder:
    return NodeOrder(
        spec=start.spec.read_text(),
        spec_path=start.spec,
        lock=start.lock,
        module="scripted_trainer",
        version=__version__,
        nice=0,
        idle=False,
        ranks=1,
        threads=3,
        gpus=False,
        silence=30.0,
        data_dir=data_dir,
        bucket=None,
        inputs={},
    )


@pytest.fixture
def trainer() -> Iterator[NodeTrainer]:
    made = NodeTrainer()
    yield made
    made.stop()


def read_all(trainer: NodeTrainer, seconds: float = 30) -> tuple[bytes, bytes, int]:
    """All that a trainer writes to its end, and its status."""
    events, log, deadline = b"", b"", time.monotonic() + seconds
    while not (part := Part(*trainer.read(len(events), len(log)))).is_last():
        assert time.monotonic() < deadline
        events, log = events + part.events, log + part.log
        time.sleep(0.02)
    assert part.status is not None
    return events, log, part.status


def kinds(events: bytes) -> list[str]:
    return [json.loads(line)["type"] for line in events.splitlines()]


def test_events_and_log_come_back_whole_and_nothing_is_left(
    trainer: NodeTrainer, order: NodeOrder, script: Callable[..., None], start: Start
) -> None:
    script(steps=4, every=2, exit_at=3)
    assert trainer.start(order.to_json()) is None
    events, log, status = read_all(trainer)
    assert kinds(events) == ["started", "log", "step", "step", "checkpoint"]
    assert log == b"ValueError: the tail of a traceback\n"
    assert status == 1
    left = {path.name for path in start.spec.parent.iterdir()}
    assert left == {"attempt-1.spec.json", "output", "trainer.lock"}


def test_a_part_that_was_lost_on_its_way_comes_again(
    trainer: NodeTrainer, order: NodeOrder, script: Callable[..., None]
) -> None:
    script(steps=2, every=5)
    assert trainer.start(order.to_json()) is None
    whole, _, _ = read_all(trainer)
    again = NodeTrainer()
    again.start(order.to_json())
    while not (first := again.read(0, 0)[0]):
        time.sleep(0.02)
    assert again.read(0, 0)[0].startswith(first)
    assert kinds(read_all(again)[0]) == kinds(whole) == ["started", "log", "step", "step", "done"]


def test_a_stopped_trainer_ends_with_its_status(
    trainer: NodeTrainer, order: NodeOrder, script: Callable[..., None]
) -> None:
    script(steps=1000, seconds=0.02)
    assert trainer.start(order.to_json()) is None
    while b"step" not in trainer.read(0, 0)[0]:
        time.sleep(0.02)
    trainer.stop()
    assert read_all(trainer)[2] == 143


def test_a_trainer_ends_when_its_worker_is_silent(
    trainer: NodeTrainer, order: NodeOrder, script: Callable[..., None]
) -> None:
    script(steps=1000, seconds=0.02)
    assert trainer.start(replace(order, silence=3.0).to_json()) is None
    while b"step" not in trainer.read(0, 0)[0]:  # before that it would end without having set up how
        time.sleep(0.02)
    deadline = time.monotonic() + 30
    while trainer._status is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert trainer._status == 143


def test_a_node_that_does_not_see_the_files_says_so(trainer: NodeTrainer, order: NodeOrder, tmp_path: Path) -> None:
    fault = trainer.start(replace(order, spec_path=tmp_path / "elsewhere.spec.json").to_json())
    assert fault is not None
    assert fault.startswith(f"Node {trainer.node()}: it does not see the job's files. Give all nodes")
    assert "set storage to a bucket and ray_node_dir" in fault


def test_a_node_of_another_version_says_so(trainer: NodeTrainer, order: NodeOrder) -> None:
    fault = trainer.start(replace(order, version="9.9").to_json())
    assert fault == (
        f"Node {trainer.node()} has Tunesmith {__version__}, the worker has 9.9. Give both the same: its image, or the "
        "setting ray_runtime_env."
    )


def test_threads_that_the_spec_leaves_open_are_those_of_the_job(
    trainer: NodeTrainer, order: NodeOrder, script: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[str] = []
    launcher = node_module._launcher

    def seen(given: NodeOrder) -> object:
        specs.append(given.spec_path.with_suffix(".node.json").read_text())
        return launcher(given)

    monkeypatch.setattr(node_module, "_launcher", seen)
    script(steps=1)
    assert trainer.start(order.to_json()) is None
    read_all(trainer)
    assert [json.loads(spec)["threads"] for spec in specs] == [3]


def test_a_node_without_the_data_directory_gets_and_puts_all_through_the_bucket(
    trainer: NodeTrainer, order: NodeOrder, script: Callable[..., None], storage: str, tmp_path: Path
) -> None:
    base = base_of(tmp_path / "base", b"weights")
    spec = {**json.loads(order.spec), "base_dir": str(base)}
    inputs = put_inputs(spec, order.data_dir, open_bucket(storage), 1.0)
    (base / "model.safetensors").unlink()  # the worker's alone
    (base / "config.json").unlink()
    root = tmp_path / "node"
    given = replace(order, spec=json.dumps(spec), inputs=inputs, bucket=Place(storage, None, 1.0, root))
    script(steps=4, every=2)
    assert trainer.start(given.to_json()) is None
    theirs = json.loads((root / "jobs/ftjob-1/attempt-1.spec.json").read_text())
    assert Path(theirs["training_file"]).is_relative_to(root / "jobs/ftjob-1")
    assert (Path(theirs["base_dir"]) / "model.safetensors").read_bytes() == b"weights"
    events, _, status = read_all(trainer)
    named = [Path(event["path"]) for line in events.splitlines() if "path" in (event := json.loads(line))]
    output = order.data_dir / "jobs/ftjob-1/output"
    models = ["checkpoints/step-000002", "checkpoints/step-000004", "adapter"]
    assert (named, status) == ([output / name for name in models], 0)
    folders = BucketFolders(order.data_dir, open_bucket(storage), 1.0)
    folders.fetch(named[-1])
    assert (named[-1] / "manifest.json").is_file()
    assert not (root / "jobs/ftjob-1").exists()


def test_of_another_node_only_the_log_comes_and_its_files_are_its_own(
    trainer: NodeTrainer, order: NodeOrder, script: Callable[..., None], start: Start
) -> None:
    script(steps=4, every=2, exit_at=3)
    given = replace(order, team=Team(2, 1, "127.0.0.1", 1))
    start.spec.with_suffix(".node.json").write_text(order.spec)  # of the first node, in the same directory
    start.spec.with_name("attempt-0.node.log").write_text("of an attempt whose node was lost")
    assert trainer.start(given.to_json()) is None
    assert (start.spec.parent / "attempt-1.spec.node-1.json").exists()
    events, log, status = read_all(trainer)
    assert events == b""
    assert kinds(log.partition(b"ValueError")[0]) == ["started", "log", "step", "step", "checkpoint"]
    assert status == 1
    left = {path.name for path in start.spec.parent.iterdir()}
    assert left == {"attempt-1.spec.json", "attempt-1.spec.node.json", "output", "trainer.lock-1"}


def test_another_node_leaves_the_jobs_progress_to_the_first(
    trainer: NodeTrainer, order: NodeOrder, script: Callable[..., None], storage: str, tmp_path: Path
) -> None:
    folders = BucketFolders(order.data_dir, open_bucket(storage), 1.0)
    output = order.data_dir / "jobs/ftjob-1/output"
    progress = output / "progress/step-000002"
    progress.mkdir(parents=True)
    (progress / "state.json").write_text("{}")
    folders.publish_progress(output)
    root, bucket = tmp_path / "node", open_bucket(storage)
    before = {(one.key, one.modified) for one in bucket.list("jobs")}
    spec = json.loads(order.spec)
    inputs = put_inputs(spec, order.data_dir, bucket, 1.0)
    team = Team(2, 1, "127.0.0.1", 1)
    given = replace(order, inputs=inputs, bucket=Place(storage, None, 1.0, root), team=team)
    script(steps=4, every=5, exit_at=3)
    assert trainer.start(given.to_json()) is None
    theirs = json.loads((root / "jobs-1/ftjob-1/attempt-1.spec.json").read_text())
    assert not (Path(theirs["output_dir"]) / "progress").exists()
    assert read_all(trainer)[2] == 1
    after = {(one.key, one.modified) for one in bucket.list("jobs") if "/rows/" not in one.key}
    assert after == before
    assert not (root / "jobs-1/ftjob-1").exists()


def test_a_node_waits_for_an_object_storage_that_is_away(
    trainer: NodeTrainer,
    order: NodeOrder,
    script: Callable[..., None],
    storage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = {**json.loads(order.spec), "base_dir": str(base_of(tmp_path / "base", b"weights"))}
    inputs = put_inputs(spec, order.data_dir, open_bucket(storage), 1.0)
    (tmp_path / "base" / "config.json").unlink()
    refusals = iter(["away", "still away"])
    whole = Bucket.read_whole

    def read_whole(self: Bucket, key: str, size: int) -> Iterator[bytes]:
        if (text := next(refusals, None)) is not None:
            raise StorageUnavailable(text)
        return whole(self, key, size)

    monkeypatch.setattr(Bucket, "read_whole", read_whole)
    monkeypatch.setattr(files_module, "RETRY_SECONDS", 0.01)
    given = replace(order, spec=json.dumps(spec), inputs=inputs, bucket=Place(storage, None, 1.0, tmp_path / "node"))
    script(steps=2, every=5)
    assert trainer.start(given.to_json()) is None
    assert read_all(trainer)[2] == 0


def test_what_a_node_cannot_read_is_told_without_its_path(
    trainer: NodeTrainer, order: NodeOrder, storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "node").write_text("no directory")
    given = replace(order, bucket=Place(storage, None, 1.0, tmp_path / "node"))
    assert trainer.start(given.to_json()) == (
        f"Node {trainer.node()}: a file cannot be read or written (Not a directory)."
    )
    assert str(tmp_path) in capsys.readouterr().err


def test_a_node_names_a_free_port_of_its_own_which_no_other_program_is_given(trainer: NodeTrainer) -> None:
    address, port = trainer.meeting()
    with socket.socket() as another, pytest.raises(OSError, match="Address already in use"):
        another.bind((address, port))
    with socket.create_server((address, port)):  # as rank 0 does
        pass
    assert trainer._port is not None
    trainer._port.close()


def test_an_outbox_gives_bytes_until_they_are_known_to_have_come() -> None:
    box = Outbox()
    box.put(b"x" * READ_BYTES + b"end")
    assert len(box.get(0)) == READ_BYTES
    assert box.get(READ_BYTES) == box.get(READ_BYTES) == b"end"
    assert box.get(READ_BYTES + 3) == b""


def test_a_tail_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    file, tail = tmp_path / "events", Tail(tmp_path / "events", whole_lines=True)
    assert tail.read() == b""
    file.write_bytes(b"one\ntw")
    assert (tail.read(), tail.read()) == (b"one\n", b"")
    file.write_bytes(b"one\ntwo\n")
    assert tail.read() == b"two\n"
