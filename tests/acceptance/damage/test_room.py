"""A run on a disk that fills waits for room, says what it lacks, and ends with the bits of an undisturbed one."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.small_disk import SmallDisk
from tests.small_disk import small_disk as small_disk
from tests.train.test_run import StopAfter, final_adapter, stopped, train

from tunesmith.train.core import disk_room
from tunesmith.train.core.disk_room import NoRoom
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.protocol.events import Checkpoint, Event, Log, Started, Step, parse_events
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.start import start

Make = Callable[..., TrainSpec]
LACK = r"The server's disk is full: (.+) needs about ([\d,]+) bytes, and ([\d,]+) are free"


class FillsAt:
    """Listens to a run: the disk is filled at one of its events, and cleared once the run has said that it waits."""

    def __init__(self, disk: SmallDisk, fills: Callable[[Event], bool], left: int) -> None:
        self.disk, self.fills, self.left = disk, fills, left
        self.said: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Log):
            self.said.append(event.message)
            if "Training waits for room" in event.message:
                self.disk.clear()
        elif self.fills(event):
            self.fills = lambda event: False
            self.disk.fill(self.left)


def at_step(number: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Step) and event.step == number


PLACES = [
    pytest.param(lambda event: isinstance(event, Started), 0, "the plan of the memory", id="plan"),
    pytest.param(at_step(2), 0, "the progress after step 2", id="nothing-is-left"),
    pytest.param(at_step(2), 40_000, "the progress after step 2", id="a-part-fits"),
    pytest.param(at_step(4), 40_000, "the checkpoint of step 4", id="checkpoint"),
    pytest.param(lambda event: isinstance(event, Checkpoint) and event.step == 8, 0, None, id="at-the-end"),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def expected(make_spec: Make, kept: Path) -> bytes:
    """The adapter of a run that nothing disturbed."""
    whole = make_spec(output_dir=kept / "out")
    if not whole.output_dir.exists():
        train(whole)
    return final_adapter(whole)


@pytest.mark.parametrize(("fills", "left", "what"), PLACES)
def test_a_run_waits_for_room_and_ends_with_the_same_bits(
    make_spec: Make,
    expected: bytes,
    small_disk: SmallDisk,
    fills: Callable[[Event], bool],
    left: int,
    what: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disk_room, "PAUSE_SECONDS", 0.05)
    spec = make_spec(output_dir=small_disk.folder / "out", checkpoint_seconds=1e-6)
    listener = FillsAt(small_disk, fills, left)
    start(spec, listener, Interrupt()).train()
    lacks = [found for text in listener.said if (found := re.match(LACK, text))]
    assert len(lacks) == 1, listener.said
    needed, free = (int(number.replace(",", "")) for number in lacks[0].groups()[1:])
    assert (what or lacks[0][1], free <= left < needed + free) == (lacks[0][1], True)
    assert sum("There is room on the server's disk again" in text for text in listener.said) == 1
    assert final_adapter(spec) == expected


def test_a_run_that_waited_in_vain_fails_with_a_sentence(
    make_spec: Make, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_room, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(disk_room, "WAIT_SECONDS", 0.3)
    listener = FillsAt(small_disk, at_step(2), 20_000)
    monkeypatch.setattr(SmallDisk, "clear", lambda disk: None)
    spec = make_spec(output_dir=small_disk.folder / "out", checkpoint_seconds=1e-6)
    with pytest.raises(NoRoom, match=LACK) as failed:
        start(spec, listener, Interrupt()).train()
    assert failed.value.code == "disk_full"
    assert failed.value.message.endswith("Free some space there, then create the job again.")


def test_a_run_that_is_stopped_while_it_waits_goes_on_from_what_was_saved(
    make_spec: Make, expected: bytes, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_room, "PAUSE_SECONDS", 0.05)
    spec = make_spec(output_dir=small_disk.folder / "out", checkpoint_seconds=1e-6)

    class FillAndStop(StopAfter):
        def __call__(self, event: Event) -> None:
            if isinstance(event, Step) and event.step == self.step:
                small_disk.fill()
            super().__call__(event)

    stopped(spec, FillAndStop(3))
    small_disk.clear()
    events = train(spec)
    assert events[0]["resumed_from_step"] == 2
    assert final_adapter(spec) == expected


def test_a_trainer_whose_events_have_no_room_waits_too(
    make_spec: Make, expected: bytes, small_disk: SmallDisk, tmp_path: Path
) -> None:
    """The real process: its events, its log and its output are on one full disk."""
    spec = make_spec(output_dir=small_disk.folder / "out", checkpoint_seconds=1e-6)
    spec.write(tmp_path / "spec.json")
    events, log = small_disk.folder / "events", small_disk.folder / "log"
    small_disk.fill()
    with events.open("ab") as stdout, log.open("ab") as stderr:
        command = [sys.executable, "-m", "tunesmith.train", str(tmp_path / "spec.json")]
        trainer = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=os.environ)
    time.sleep(5)  # it is at its first write by then, or is yet to come to it
    assert (trainer.poll(), events.read_bytes()) == (None, b"")
    small_disk.clear()
    assert trainer.wait(120) == 0, log.read_text()
    steps = [event.step for event in parse_events(events.read_text()) if isinstance(event, Step)]
    assert steps == [*range(1, 9)]
    assert final_adapter(spec) == expected
