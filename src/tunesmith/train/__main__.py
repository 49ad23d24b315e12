"""The trainer's process: `python -m tunesmith.train spec.json`.

It prints events as JSON lines on stdout. Exit codes: 0 done, 1 failed (the last line says why), 2 wrong call, 74 the
disk was full for so long, even for a line, that it gave up, 143 stopped by SIGTERM or by the loss of another rank,
with the progress saved: the same command goes on from there.

Several of them train one run together where RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set, as by
`torchrun --nproc-per-node 2 -m tunesmith.train spec.json`. Rank 0 prints the events; each other writes only what ends
it, on stderr.
"""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import TunesmithError
from tunesmith.system.activity import doing
from tunesmith.system.disk import is_full
from tunesmith.system.memory import is_out_of_memory
from tunesmith.train.core.disk_room import Patience
from tunesmith.train.core.interrupt import Interrupt, RankLost, Stopped
from tunesmith.train.protocol.environment import restart_with_environment
from tunesmith.train.protocol.events import Event, EventWriter, Failed, Listener, Log, claim_stdout
from tunesmith.train.protocol.exit_status import NO_ROOM, STOPPED
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.place import Place
from tunesmith.train.ranks.watch import Ending

WORDS_KEPT = 200  # characters of an allocator's report; the rest is advice to programmers


def main(arguments: list[str]) -> int:
    """Trains the spec named by the only argument; returns the exit code.

    One of several ranks ends here and does not return.
    """
    if len(arguments) != 1:
        print("usage: python -m tunesmith.train SPEC.json", file=sys.stderr)  # noqa: T201  # for the person who called it
        return 2
    restart_with_environment(arguments)
    code = _main(Path(arguments[0]))
    if not _is_alone():
        sys.stderr.flush()
        os._exit(code)  # gloo's threads may wait for a rank that is gone, and Python for them
    return code


def _main(path: Path) -> int:
    interrupt = Interrupt()
    write = EventWriter(claim_stdout(), Patience(interrupt).write)
    emit = write if _is_alone() or os.environ.get("RANK") == "0" else _say
    interrupt.install()
    try:
        return _Trainer(emit, interrupt).run(path)
    except Stopped:  # while even its last line waited for room
        return STOPPED
    except OSError as error:
        if not is_full(error):
            raise
        return NO_ROOM


def _is_alone() -> bool:
    return os.environ.get("WORLD_SIZE", "1") == "1"


def _say(event: Event) -> None:
    """What a rank other than the first has to tell: why it ends."""
    if isinstance(event, Failed) or (isinstance(event, Log) and event.level != "info"):
        print(f"Rank {os.environ.get('RANK')}: {event.message}", file=sys.stderr)  # noqa: T201


def _unexpected(error: Exception) -> Failed:
    if is_out_of_memory(error):
        return Failed("out_of_memory", _out_of_memory(error))
    with suppress(OSError):  # stderr is a file too
        traceback.print_exception(error)
    return Failed("trainer_error", f"The trainer failed: {type(error).__name__}: {error}")


def _out_of_memory(error: Exception) -> str:
    """Outside of the steps, which are tried again: mostly while the base is loaded."""
    said = " ".join(str(error).split())[:WORDS_KEPT].rstrip(".")
    return (
        f"The trainer ran out of memory{f' ({said})' if said else ''}. Free some, take a smaller base, or shorten "
        "the rows."
    )


def _to_nobody(ending: Ending) -> None:
    """Where there are no other ranks."""


@dataclass(slots=True)
class _Trainer:
    emit: Listener
    interrupt: Interrupt
    tell: Callable[[Ending], None] = _to_nobody  # the other ranks

    def run(self, path: Path) -> int:
        try:
            return self._train(path)
        except TunesmithError as error:
            failed = Failed(error.code or "invalid_training_job", error.message, error.param)
        except Exception as error:
            failed = _unexpected(error)
        self.tell(Ending("failed", failed.message, failed.code, failed.param))
        self.emit(failed)
        return 1

    def _train(self, path: Path) -> int:
        place = Place.of(os.environ)
        spec = TrainSpec.read(path) if place.size == 1 else None  # before torch is imported
        try:
            with self.interrupt.interruptible(), doing("starting the trainer"):
                from tunesmith.train.ranks.group import join

                ranks = join(place, self.interrupt)
                self.tell = ranks.leave
                from tunesmith.train.start import start

                run = start(spec or TrainSpec.read(path), self.emit, self.interrupt, ranks)
            run.train()
        except Stopped as stopped:
            self._stopped(stopped)
            return STOPPED
        self.tell(Ending("done"))
        return 0

    def _stopped(self, stopped: Stopped) -> None:
        if isinstance(stopped, RankLost):
            self.tell(Ending("stopped", str(stopped)))
            saved = f"; {stopped.kept}, and the same command goes on from there"
            self.emit(Log("warn", f"Training was interrupted: {stopped}{saved}."))
            return
        self.tell(Ending("stopped"))
        self.emit(Log("info", f"Stopped as asked; {str(stopped) or stopped.kept}."))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
