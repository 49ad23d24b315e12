"""The trainer's process: `python -m tunesmith.train spec.json`.

It prints events as JSON lines on stdout. Exit codes: 0 done, 1 failed (the last line says why), 2 wrong call, 74 the
disk was full for so long, even for a line, that it gave up, 143 stopped by SIGTERM with the progress saved: the same
command goes on from there.
"""

import sys
import traceback
from contextlib import suppress
from pathlib import Path

from tunesmith.errors import TunesmithError
from tunesmith.system.activity import doing
from tunesmith.system.disk import is_full
from tunesmith.system.memory import is_out_of_memory
from tunesmith.train.core.disk_room import Patience
from tunesmith.train.core.interrupt import Interrupt, Stopped
from tunesmith.train.protocol.environment import restart_with_environment
from tunesmith.train.protocol.events import EventWriter, Failed, Listener, Log, claim_stdout
from tunesmith.train.protocol.spec import TrainSpec

STOPPED = 143
NO_ROOM = 74
WORDS_KEPT = 200  # characters of an allocator's report; the rest is advice to programmers


def main(arguments: list[str]) -> int:
    """Trains the spec named by the only argument; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m tunesmith.train SPEC.json", file=sys.stderr)  # noqa: T201  # for the person who called it
        return 2
    restart_with_environment(arguments)
    interrupt = Interrupt()
    emit = EventWriter(claim_stdout(), Patience(interrupt).write)
    interrupt.install()
    try:
        return _run(Path(arguments[0]), emit, interrupt)
    except Stopped:  # while even its last line waited for room
        return STOPPED
    except OSError as error:
        if not is_full(error):
            raise
        return NO_ROOM


def _run(path: Path, emit: Listener, interrupt: Interrupt) -> int:
    try:
        return _train(path, emit, interrupt)
    except TunesmithError as error:
        emit(Failed(error.code or "invalid_training_job", error.message, error.param))
    except Exception as error:
        if is_out_of_memory(error):
            emit(Failed("out_of_memory", _out_of_memory(error)))
            return 1
        with suppress(OSError):  # stderr is a file too
            traceback.print_exc()
        emit(Failed("trainer_error", f"The trainer failed: {type(error).__name__}: {error}"))
    return 1


def _out_of_memory(error: Exception) -> str:
    """Outside of the steps, which are tried again: mostly while the base is loaded."""
    said = " ".join(str(error).split())[:WORDS_KEPT].rstrip(".")
    return (
        f"The trainer ran out of memory{f' ({said})' if said else ''}. Free some, take a smaller base, or shorten "
        "the rows."
    )


def _train(path: Path, emit: Listener, interrupt: Interrupt) -> int:
    spec = TrainSpec.read(path)
    try:
        with interrupt.interruptible(), doing("starting the trainer"):
            from tunesmith.train.start import start  # imports torch, once the spec is known to be valid

            run = start(spec, emit, interrupt)
        run.train()
    except Stopped as stopped:
        emit(Log("info", f"Stopped as asked; {str(stopped) or 'the progress is saved'}."))
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
