"""A trainer as a child process of the worker.

Its stdout goes to a file instead of a pipe, so that a slow worker never holds it up, and its output survives both.
"""

import os
import signal
import subprocess
from dataclasses import dataclass

from tunesmith.launch.protocol import Start
from tunesmith.system.processes import StopWatch
from tunesmith.system.python import module_command

STOP_SECONDS = 10.0  # from SIGTERM to SIGKILL: the trainer saves its progress, which takes about a second
TRAINER_MODULE = "tunesmith.train"


@dataclass(frozen=True, slots=True)
class ChildLauncher:
    """Starts child processes.

    `module` is what the child becomes; only tests name another.
    """

    module: str = TRAINER_MODULE
    stop_seconds: float | None = None  # from SIGTERM to SIGKILL; None: STOP_SECONDS

    def start(self, start: Start) -> "ChildTrainer":
        """Starts the child, whose first code is `tunesmith.launch.__main__`."""
        command = module_command("tunesmith.launch", self.module, str(start.spec), str(start.lock))
        with start.events.open("ab") as stdout, start.log.open("ab") as stderr:
            process = subprocess.Popen(
                [*command, str(start.nice), "idle" if start.idle else "share"],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env=start.environment,
                start_new_session=True,  # Ctrl-C in the worker's terminal is the worker's to handle
            )
        return ChildTrainer(process, StopWatch(process.pid), self.stop_seconds or STOP_SECONDS)


@dataclass(slots=True)
class ChildTrainer:
    """A child process, in a session of its own."""

    process: subprocess.Popen[bytes]
    watch: StopWatch
    stop_seconds: float

    def poll(self) -> int | None:
        """See `Trainer.poll`. A trainer that was stopped for a minute is killed."""
        if self.watch.hangs():
            self._signal(signal.SIGKILL)
        return self.process.poll()

    def stop(self) -> None:
        """See `Trainer.stop`."""
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
