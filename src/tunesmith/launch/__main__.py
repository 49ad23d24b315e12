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

LOCK_SECONDS = 60.0  # how long a new trainer waits for the old one to end


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
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(f"Another trainer has been running on this job for {LOCK_SECONDS:.0f} s; end it first.")
            time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1:])
