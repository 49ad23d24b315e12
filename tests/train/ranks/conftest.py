"""Starting the ranks of a run as processes of one thread each."""

import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.train.protocol.spec import TrainSpec

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.train.ranks.member"])
SECONDS = 60.0  # for what takes a few, on a busy machine
Target = Callable[[dict[str, str], Path, Path], None]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Started:
    """The ranks of one run, which may have ended."""

    processes: list[ForkServerProcess]
    outputs: list[Path]

    def codes(self, seconds: float = 2 * SECONDS) -> list[int | None]:
        """Exit codes, once all have ended; None: not within `seconds`."""
        until = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, until - time.monotonic()))
        return [process.exitcode for process in self.processes]

    def events(self, rank: int = 0) -> list[JsonObject]:
        text = self.outputs[rank].with_suffix(".events").read_text("utf-8")
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def errors(self, rank: int) -> str:
        return self.outputs[rank].with_suffix(".errors").read_text("utf-8")

    def wait_for_step(self, step: int) -> None:
        """Returns once rank 0 has reported `step`."""
        until = time.monotonic() + SECONDS
        while not any(event.get("step") == step for event in self.events()):
            assert time.monotonic() < until, self.events()
            time.sleep(0.01)

    def signal(self, rank: int, number: signal.Signals) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)


def losses(run: Started) -> list[tuple[object, object]]:
    return [(event["train_loss"], event["grad_norm"]) for event in run.events() if event["type"] == "step"]


StartRanks = Callable[..., Started]


@pytest.fixture
def start_ranks(tmp_path: Path) -> Iterator[StartRanks]:
    """Starts ranks; `specs` has one for all, or one for each."""
    processes: list[ForkServerProcess] = []
    count = 0

    def start(target: Target, size: int, *specs: TrainSpec, **environment: str) -> Started:
        nonlocal count
        count += 1
        port, outputs, mine = free_port(), [], []
        for rank in range(size):
            output = tmp_path / f"run-{count}-rank-{rank}"
            spec = output.with_suffix(".json")
            specs[rank % len(specs)].write(spec)
            places = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
            named = {name: str(value) for name, value in {**places, "MASTER_PORT": port}.items()}
            named |= {"MASTER_ADDR": "127.0.0.1", **environment}
            output.with_suffix(".events").touch()
            mine.append(FORKS.Process(target=target, args=(named, spec, output)))
            mine[-1].start()
            outputs.append(output)
        processes.extend(mine)
        return Started(mine, outputs)

    yield start
    for process in processes:
        process.kill()
        process.join()
        process.close()
