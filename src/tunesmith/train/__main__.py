"""The trainer's process: `python -m tunesmith.train spec.json`.

It prints events as JSON lines on stdout. Exit codes: 0 done, 1 failed (the last line says why), 2 wrong call, 143
stopped by SIGTERM with the progress saved: the same command goes on from there.
"""

import sys
import traceback
from pathlib import Path

from tunesmith.errors import TunesmithError
from tunesmith.system.activity import doing
from tunesmith.train.core.interrupt import Interrupt, Stopped
from tunesmith.train.protocol.environment import restart_with_environment
from tunesmith.train.protocol.events import EventWriter, Failed, Listener, Log, claim_stdout
from tunesmith.train.protocol.spec import TrainSpec

STOPPED = 143


def main(arguments: list[str]) -> int:
    """Trains the spec named by the only argument; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m tunesmith.train SPEC.json", file=sys.stderr)  # noqa: T201  # for the person who called it
        return 2
    restart_with_environment(arguments)
    emit = EventWriter(claim_stdout())
    interrupt = Interrupt()
    interrupt.install()
    try:
        return _train(Path(arguments[0]), emit, interrupt)
    except TunesmithError as error:
        emit(Failed(error.code or "invalid_training_job", error.message, error.param))
    except MemoryError:
        emit(Failed("out_of_memory", "The trainer ran out of memory: lower batch_size, or shorten the rows."))
    except Exception as error:
        traceback.print_exc()
        emit(Failed("trainer_error", f"The trainer failed: {type(error).__name__}: {error}"))
    return 1


def _train(path: Path, emit: Listener, interrupt: Interrupt) -> int:
    spec = TrainSpec.read(path)
    try:
        with interrupt.interruptible(), doing("starting the trainer"):
            from tunesmith.train.start import start  # imports torch, once the spec is known to be valid

            run = start(spec, emit, interrupt)
        run.train()
    except Stopped:
        emit(Log("info", "Stopped as asked; the progress is saved."))
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
