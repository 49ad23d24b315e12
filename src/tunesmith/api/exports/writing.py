"""One export while its child process writes it."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import orjson
import structlog

from tunesmith.api.exports.order import DONE, FAULT, NEEDED, REFUSED, Order
from tunesmith.api.exports.state import State, name_of, size_of
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.system.python import module_command, without_keys

log = structlog.get_logger(__name__)

MOST_SECONDS = 6 * 3600.0
FAILED = "This export failed unexpectedly; the server's log has the details."
DIED = "The process that wrote this export ended ({reason}): the machine may have run out of memory. Try it again."
TOO_LONG = "This export took longer than six hours and was given up. Write it with the command on the server's machine."


class Writing:
    """A child process that writes, and a thread that hears it.

    `lock`: a descriptor that the child keeps open. `ended` is told how it ended, None if it was stopped.
    """

    def __init__(
        self, order: Order, folder: Path, settings: Settings, lock: int, ended: Callable[[State | None], None]
    ) -> None:
        self.order = order
        self._name, self._folder, self._ended = name_of(order.model, order.kind), folder, ended
        self._state = State(order.model, order.kind, order.width, "running")
        self._stopped = self._too_long = False
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(  # a fixed command line; the order travels as data
            module_command("tunesmith.api.exports.child"),
            env={**without_keys(os.environ), **one},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[lock],
        )
        self._send(order.to_json(folder / self._name, settings))
        self._thread = threading.Thread(target=self._hear, name="export", daemon=True)

    def begin(self) -> None:
        """Starts to hear the child: from now on `ended` may be called."""
        self._thread.start()

    def state(self) -> State:
        """How far it is."""
        return replace(self._state, written=sum(map(size_of, self._partial())))

    def stop(self) -> None:
        """Ends the child, and waits until nothing of it is left."""
        self._stopped = True
        self._kill()
        self._thread.join()

    def _partial(self) -> list[Path]:
        return [*self._folder.glob(f".{self._name}-*")]

    def _send(self, order: JsonObject) -> None:
        assert self._process.stdin is not None  # noqa: S101
        with suppress(BrokenPipeError):  # it died meanwhile: its end says so
            self._process.stdin.write(orjson.dumps(order) + b"\n")
            self._process.stdin.flush()

    def _hear(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        late = threading.Timer(MOST_SECONDS, self._give_up)
        late.daemon = True
        late.start()
        last: JsonObject = {}
        for line in self._process.stdout:
            last = orjson.loads(line) if line.endswith(b"\n") else {}
            if NEEDED in last:
                self._state = replace(self._state, needed=int(str(last[NEEDED])))
        code = self._process.wait()
        late.cancel()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                stream.close()
        for left in self._partial():
            rmtree(left, ignore_errors=True)
        self._ended(None if self._stopped else self._outcome(last, code))

    def _outcome(self, last: JsonObject, code: int) -> State:
        if DONE in last:
            size = size_of(self._folder / self._name)
            return replace(self._state, phase="done", written=size, needed=size)
        if REFUSED in last:
            return replace(self._state, phase="failed", message=str(last[REFUSED]))
        if FAULT in last:
            log.error("an export failed", model=self.order.model, kind=self.order.kind, exception=last[FAULT])
            return replace(self._state, phase="failed", message=FAILED)
        known = -code in set(signal.Signals)
        reason = signal.Signals(-code).name if known else f"exit status {code}"
        message = TOO_LONG if self._too_long else DIED.format(reason=reason)
        return replace(self._state, phase="failed", message=message)

    def _give_up(self) -> None:
        self._too_long = True
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
