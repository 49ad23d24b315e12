"""The worker as a process of its own.

`tunesmith serve` keeps one beside the API and restarts it when it dies. It shares neither memory nor the interpreter
lock with the API. Its stdin is its lifeline: when the API's process ends, however that happens, the pipe closes and the
worker ends too, and with it the trainer.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

import structlog

from tunesmith.errors import TunesmithError
from tunesmith.launch.ray.launcher import check_launcher
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.system.disk import failure
from tunesmith.system.log import configure_log
from tunesmith.system.private import make_new_files_private
from tunesmith.system.processes import StopWatch, end_on_hangup
from tunesmith.system.python import module_command
from tunesmith.system.streams import guard_streams, outlive_readers
from tunesmith.worker.handover import AnySettings, read_settings, settings_line, without_secrets

log = structlog.get_logger(__name__)

STOP_SECONDS = 15.0  # its trainer has 10 of them to save its progress
RESTART_SECONDS = 1.0
LONGEST_PAUSE = 60.0  # between two tries to start a worker where the machine lacks memory, processes or files
WATCH_SECONDS = 0.2
WORKER_MODULE = "tunesmith.worker"
LIFELINE = "--lifeline"  # settings arrive as the first line of stdin; we end when it closes


class WorkerProcess:
    """A child worker, supervised by a thread from `start()` to `stop()`.

    `module` is what the child runs; only tests name another.
    """

    def __init__(self, settings: Settings, module: str = WORKER_MODULE) -> None:
        self._settings = settings
        self._module = module
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.fault: str | None = None  # why no worker runs although one should
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The id of the current process; None before the start."""
        return None if self._process is None else self._process.pid

    def why_absent(self) -> str | None:
        """Why no worker runs although one should; None while one does."""
        return self.fault

    def start(self) -> None:
        """Start the worker and its supervision."""
        self._start_one()
        self._thread = threading.Thread(target=self._watch, name="worker-process", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the worker; a job in training goes back to the queue, progress saved."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._process is not None:
            _end(self._process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            module_command(self._module, LIFELINE, str(log.bind().get_effective_level())),
            stdin=subprocess.PIPE,
            env=without_secrets(os.environ, type(self._settings)),
            start_new_session=True,  # Ctrl-C goes to the server, which then stops us cleanly
        )
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died at once: `_watch` will notice
                process.stdin.write(settings_line(self._settings))
                process.stdin.flush()
        return process

    def _start_one(self) -> None:
        """Start a worker; where the machine lacks something, `_watch` tries again."""
        try:
            self._process, self.fault = self._spawn(), None
        except OSError as error:
            self._process, self.fault = None, f"The worker cannot be started: {error.strerror or error}."

    def _watch(self) -> None:
        pause, hung = RESTART_SECONDS, None
        while not self._stopping.wait(WATCH_SECONDS):
            process = self._process
            if process is None:
                log.warning("no worker runs; trying again", fault=self.fault, seconds=pause)
                if not self._stopping.wait(pause):
                    self._start_one()
                    pause = min(2 * pause, LONGEST_PAUSE) if self._process is None else RESTART_SECONDS
                continue
            hung = hung if hung is not None and hung.pid == process.pid else StopWatch(process.pid)
            if hung.hangs():
                log.warning("the worker has been stopped for too long; it is killed")
                process.kill()
            self._restart(process)

    def _restart(self, process: subprocess.Popen[bytes]) -> None:
        status = process.poll()
        if status is not None and not self._stopping.wait(RESTART_SECONDS):
            log.warning("the worker ended; starting another", status=status)
            _end(process)
            self._start_one()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def main(arguments: list[str]) -> None:
    """Run a worker until SIGTERM or Ctrl-C.

    With `--lifeline LEVEL` also until the end of stdin, with the settings that arrive there and that log level.
    """
    from tunesmith.worker.loop import run_worker

    make_new_files_private()
    guard_streams()
    outlive_readers()  # jobs matter more than the log
    inherits = LIFELINE in arguments
    configure_log(int(arguments[-1]) if inherits else logging.INFO)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    end_on_hangup()
    settings = inherited_settings(stop, Settings) if inherits else Settings()
    _check_launcher(settings)
    store = _opened(settings)
    try:
        run_worker(store, settings, stop)
    finally:
        store.close()


def _check_launcher(settings: Settings) -> None:
    try:
        check_launcher(settings)
    except TunesmithError as error:
        sys.exit(f"error: the worker cannot start: {error}")


def _opened(settings: Settings) -> Store:
    """The store; the process ends with a sentence where it cannot be opened."""
    try:
        return open_store(settings)
    except OSError as error:
        sys.exit(f"error: the worker cannot start: {failure(error)}")
    except TunesmithError as error:
        sys.exit(f"error: the worker cannot start: {error}")


def inherited_settings(stop: threading.Event, kind: type[AnySettings]) -> AnySettings:
    """Read the settings that the parent process wrote to our stdin.

    From then on, the parent's end sets `stop`.
    """
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_parent, args=(stop,), name="end-with-parent", daemon=True).start()
    return read_settings(line, kind)


def _end_with_parent(stop: threading.Event) -> None:
    while os.read(0, 1024):  # not sys.stdin: a thread that holds its lock at exit makes Python abort
        pass
    stop.set()
    time.sleep(STOP_SECONDS)
    os._exit(1)
