"""Several ranks behind one launcher: they meet through a file, end together, and leave nothing.

What real trainers do of it, over loopback only, is in `tests.acceptance.test_ranks_kill`.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.launch.test_child import wait

from tunesmith.launch.child import ChildLauncher, ChildTrainer
from tunesmith.launch.protocol import Start
from tunesmith.launch.ranks import RankedTrainer, RanksLauncher, Team
from tunesmith.train.ranks.place import Place


def test_ranks_end_together_and_leave_nothing(tmp_path: Path) -> None:
    spec, events, log, lock = (tmp_path / name for name in ("spec.json", "events", "log", "lock"))
    spec.write_text("{}")
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parent}"}
    start = Start(spec, events, log, lock, environment=environment)
    trainer = RanksLauncher(2, ChildLauncher("scripted_rank")).start(start)
    assert isinstance(trainer, RankedTrainer)
    try:
        wait(lambda: all((tmp_path / f"started-{rank}").exists() for rank in range(2)))
        assert trainer.meeting.exists()
        assert trainer.poll() is None
        os.kill(trainer.ranks[1].process.pid, signal.SIGKILL)
        wait(lambda: trainer.ranks[1].poll() is not None)
        assert trainer.poll() is None  # rank 0 has still to save the progress
        (tmp_path / "gone").touch()
        wait(lambda: trainer.poll() is not None)
        assert trainer.poll() == -signal.SIGKILL  # rank 1's; rank 0 has ended with 143
    finally:
        trainer.stop()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["events", "gone", "lock", "lock-1", "log", "spec.json", "started-0", "started-1"]


def test_ranks_of_several_machines_meet_at_the_first_one(tmp_path: Path) -> None:
    start = Start(tmp_path / "spec", tmp_path / "events", tmp_path / "log", tmp_path / "lock", environment={"A": "b"})
    starts = [
        one
        for machine in range(2)
        for one in RanksLauncher(2, team=Team(2, machine, "10.0.0.7", 4321))._starts(start, tmp_path / "meeting")
    ]
    places = [Place.of(one.environment or {}) for one in starts]
    assert places == [Place(rank, 4, rank % 2, 2, "10.0.0.7", 4321) for rank in range(4)]
    assert [one.events.name for one in starts] == ["events", "log", "log", "log"]
    assert [one.lock.name for one in starts] == ["lock", "lock-1", "lock-2", "lock-3"]
    assert all(one.environment is not None and one.environment["A"] == "b" for one in starts)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's environment")
def test_one_rank_is_a_trainer_as_ever_wherever_the_worker_runs(
    tmp_path: Path, script: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "3")
    script(steps=1000, seconds=0.02)
    (tmp_path / "spec").write_text(json.dumps({"output_dir": str(tmp_path)}))
    trainer = RanksLauncher(1).start(Start(tmp_path / "spec", tmp_path / "events", tmp_path / "log", tmp_path / "lock"))
    try:
        assert isinstance(trainer, ChildTrainer)
        path = Path(f"/proc/{trainer.process.pid}/environ")
        wait(lambda: path.read_bytes())  # empty until the child has become Python
        given = path.read_bytes().split(b"\0")
        assert b"WORLD_SIZE=1" in given
        assert b"WORLD_SIZE=8" not in given
    finally:
        trainer.stop()
