"""Several ranks behind one launcher: they meet through a file, end together, and leave nothing."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.launch.test_child import lines, wait

from tunesmith.launch.child import ChildTrainer
from tunesmith.launch.protocol import Start
from tunesmith.launch.ranks import RankedTrainer, RanksLauncher
from tunesmith.train.protocol.environment import trainer_environment
from tunesmith.train.protocol.spec import TrainSpec

SECONDS = 90.0  # two trainers import torch


@contextmanager
def running(spec: TrainSpec, folder: Path, ranks: int) -> Iterator[tuple[RankedTrainer, Start]]:
    folder.mkdir()
    start = Start(folder / "spec.json", folder / "events", folder / "log", folder / "lock", 0, False, _environment())
    spec.write(start.spec)
    trainer = RanksLauncher(ranks).start(start)
    assert isinstance(trainer, RankedTrainer)
    try:
        yield trainer, start
    finally:
        trainer.stop()


def _environment() -> dict[str, str]:
    return {**trainer_environment(), "OMP_NUM_THREADS": "1"}


def test_two_ranks_train_listen_on_loopback_only_and_stop_together(
    make_spec: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    spec = make_spec(n_epochs=500, threads=2)
    with running(spec, tmp_path / "first", 2) as (trainer, start):
        wait(lambda: any(line.get("step") == 3 for line in lines(start.events)), SECONDS)
        pids = [rank.process.pid for rank in trainer.ranks]
        addresses = [
            connection.laddr.ip
            for pid in pids
            for connection in psutil.Process(pid).net_connections("inet")
            if connection.status in (psutil.CONN_LISTEN, psutil.CONN_ESTABLISHED)
        ]
        assert addresses
        assert set(addresses) == {"127.0.0.1"}
        assert trainer.poll() is None
        os.kill(pids[1], signal.SIGKILL)
        wait(lambda: trainer.poll() is not None, 30.0)
        assert trainer.poll() == -signal.SIGKILL  # rank 1's; rank 0 has saved the progress, and ended with 143
        said = [str(line["message"]) for line in lines(start.events) if line["type"] == "log"]
        assert said[-1].startswith("Training was interrupted: rank 1 ended without a word")
    left = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert left == ["events", "lock", "lock-1", "log", "spec.json"]


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
        given = Path(f"/proc/{trainer.process.pid}/environ").read_bytes().split(b"\0")
        assert b"WORLD_SIZE=1" in given
        assert b"WORLD_SIZE=8" not in given
    finally:
        trainer.stop()
