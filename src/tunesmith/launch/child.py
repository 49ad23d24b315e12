"""Starting and stopping a trainer: here a child process; a cluster's scheduler can stand behind the same protocol.

The child runs this file first (`python -m tunesmith.launch`), which makes three promises and then becomes the trainer:
it never outlives its worker (its stdin is a pipe that only the worker holds, so a killed worker closes it), it never
runs beside another trainer of the same job (a lock in the job's directory, which the kernel drops when its holder
dies), and it yields the processor to whoever serves (nice).

Its stdout goes to a file instead of a pipe: a slow worker never holds it up, and what it wrote outlives everyone.
"""

import contextlib
import fcntl
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from tunesmith.jsonvalue import JsonObject

STOP_SECONDS = 10.0  # from SIGTERM to SIGKILL: the trainer saves its progress, which takes about a second
LOCK_SECONDS = 60.0  # how long a new trainer waits for the old one to end
LOG_TAIL_BYTES = 2000
TRAINER_MODULE = "tunesmith.train"


@dataclass(frozen=True, slots=True)
class Start:
    """What a trainer is started with. The three files are the worker's to choose, one set per attempt."""

    spec: Path
    events: Path  # its stdout
    log: Path  # its stderr
    lock: Path
    nice: int = 0
    idle: bool = False  # only what other processes leave, where the system knows such (Linux)
    environment: Mapping[str, str] | None = None  # None: as this process has it


class Trainer(Protocol):
    """A started trainer. Its events are read from `Start.events`, so that they can be read after its end too."""

    def poll(self) -> int | None:
        """None while it runs, then the exit status; negative: the signal that killed it."""

    def stop(self) -> None:
        """Ask it to end, wait, then kill it. When this returns it has ended."""


class Launcher(Protocol):
    def start(self, start: Start) -> Trainer: ...


@dataclass(frozen=True, slots=True)
class ChildLauncher:
    """`module` is what the child becomes; only tests name another."""

    module: str = TRAINER_MODULE

    def start(self, start: Start) -> "ChildTrainer":
        command = [sys.executable, "-m", "tunesmith.launch", self.module, str(start.spec), str(start.lock)]
        with start.events.open("ab") as stdout, start.log.open("ab") as stderr:
            process = subprocess.Popen(
                [*command, str(start.nice), "idle" if start.idle else "share"],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env=start.environment,
                start_new_session=True,  # Ctrl-C in the worker's terminal is the worker's to handle
            )
        return ChildTrainer(process)


@dataclass(slots=True)
class ChildTrainer:
    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


@dataclass(slots=True)
class LineReader:
    """Reads whole JSON lines from a file that grows; half a line waits for its end."""

    path: Path
    offset: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def read(self) -> Iterator[JsonObject]:
        """The objects that have become complete since the last call. A line that is no JSON object is skipped."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        self.offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


def log_tail(path: Path) -> str:
    """The last lines of a trainer's stderr, for an error message; "" when it wrote none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""


def main(arguments: list[str]) -> None:
    """The child: `MODULE SPEC LOCK NICE idle|share`. Runs MODULE as `__main__` with SPEC as its only argument."""
    module, spec, lock, niceness, policy = arguments
    threading.Thread(target=_end_with_worker, name="end-with-worker", daemon=True).start()
    os.nice(int(niceness))
    if policy == "idle":
        _step_aside()
    _volunteer()
    with Path(lock).open("ab") as file:
        _acquire(file)
        sys.argv = [module, spec]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_worker() -> None:
    """Blocks until the worker closes our stdin by stopping or dying: save and end, or be ended."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _step_aside() -> None:
    """A core goes to whoever else wants it at once; with a nice value alone a token waits for the end of a turn."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container that forbids it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _volunteer() -> None:
    """When memory runs out, Linux should end the trainer, which resumes, and neither API nor worker."""
    with contextlib.suppress(OSError):  # other systems, or a container that forbids it
        Path("/proc/self/oom_score_adj").write_text("500")


def _acquire(file: IO[bytes]) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(f"Another trainer has been running on this job for {LOCK_SECONDS:.0f} s; end it first.")
            time.sleep(0.1)
