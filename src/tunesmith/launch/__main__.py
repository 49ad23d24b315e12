"""The child process that becomes a trainer: `python -m tunesmith.launch`.

It never outlives its worker (its stdin is a pipe that only the worker holds, so a killed worker closes it), it never
runs beside another trainer of the same job (a lock in the job's directory, which the kernel drops when its holder
dies), and it yields the processor to whatever serves requests (nice, or the scheduler's idle policy).
"""

import contextlib
import fcntl
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

from tunesmith.launch.child import STOP_SECONDS
from tunesmith.system.private import make_new_files_private
from tunesmith.system.processes import identity, kill_group
from tunesmith.train.protocol.events import EventWriter, Log

LOCK_SECONDS = 60.0  # how long a new trainer waits for the old one to end by itself


def main(arguments: list[str]) -> None:
    """Runs a module as `__main__` with a spec as its only argument.

    `arguments`: MODULE SPEC LOCK NICE idle|share.
    """
    make_new_files_private()
    module, spec, lock, niceness, policy = arguments
    threading.Thread(target=_end_with_worker, name="end-with-worker", daemon=True).start()
    os.nice(int(niceness))
    if policy == "idle":
        _use_idle_time()
    _prefer_for_oom_kill()
    with Path(lock).open("ab") as file:
        _acquire(file)
        sys.argv = [module, spec]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_worker() -> None:
    """Waits until the worker closes our stdin by stopping or dying; then ends this process, which may save first."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _use_idle_time() -> None:
    """Gives a core up at once to any process that wants it; with a nice value alone that waits for a time slice."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container that forbids it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _prefer_for_oom_kill() -> None:
    """Has Linux end the trainer when memory runs out, since it resumes, and neither API nor worker."""
    with contextlib.suppress(OSError):  # other systems, or a container that forbids it
        Path("/proc/self/oom_score_adj").write_text("500")


def _acquire(file: IO[bytes]) -> None:
    """Waits for the lock; a holder that keeps it for `LOCK_SECONDS` hangs, since its lease has ended, and is killed.

    On another machine it cannot be: then this waits on, and the job does not fail by it.
    """
    started, tried = time.monotonic(), False
    while not _locks(file):
        if not tried and time.monotonic() - started > LOCK_SECONDS:
            tried = True
            _end_holder(Path(file.name))
        time.sleep(0.1)
    file.truncate(0)
    file.write((identity(os.getpid()) or "").encode())
    file.flush()


def _locks(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_holder(lock: Path) -> None:
    killed = kill_group(lock.read_text(errors="replace"))
    what = "It was killed." if killed else "It does not run on this machine: training waits for its end."
    text = f"An earlier trainer of this job had not ended after {LOCK_SECONDS:.0f} s. {what}"
    EventWriter(sys.stdout)(Log("warn", text))


if __name__ == "__main__":
    main(sys.argv[1:])
