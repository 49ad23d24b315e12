"""One export while its child process writes it."""

import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree

import orjson
import structlog

from tunesmith.api.exports.request import DONE, FAULT, NEEDED, REFUSED, ExportRequest
from tunesmith.api.exports.shelf import Shelf
from tunesmith.api.exports.state import State, name_of, size_of
from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.system.python import module_command, without_keys

log = structlog.get_logger(__name__)

MOST_SECONDS = 6 * 3600.0
TELL_SECONDS = 2.0  # between two words to other servers
FAILED = "This export failed unexpectedly; the server's log has the details."
DIED = "The process that wrote this export ended ({reason}): the machine may have run out of memory. Try it again."
NOT_PUT = (
    "The export was written, but the object storage did not take it. Try it again; the server's log has the reason."
)
TOO_LONG = "This export took longer than six hours and was given up. Write it with the command on the server's machine."


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a server writes exports.

    `lock`: a descriptor that the child keeps open, and the writing closes.
    """

    folder: Path
    shelf: Shelf
    lock: int


class Writing:
    """A child process that writes, and threads that hear it and tell others.

    `ended` is told how it ended, None if it was stopped.
    """

    def __init__(
        self, request: ExportRequest, place: Workplace, settings: Settings, ended: Callable[[State | None], None]
    ) -> None:
        self.request, self.stopped, self.sent = request, False, 0
        self._name, self._place, self._ended = name_of(request.model, request.kind), place, ended
        self._state = State(request.model, request.kind, request.width, "running", token=secrets.token_hex(8))
        self._too_long, self._over = False, threading.Event()
        place.shelf.begin(self._state)
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(  # a fixed command line; the request travels as data
            module_command("tunesmith.api.exports.child"),
            env={**without_keys(os.environ), **one},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[place.lock],
        )
        self._send(request.to_json(self._target, settings))
        self._thread = threading.Thread(target=self._hear, name="export", daemon=True)
        self._telling = threading.Thread(target=self._tell, name="export-told", daemon=True)

    def begin(self) -> None:
        """Starts to hear the child: from now on `ended` may be called."""
        self._thread.start()
        self._telling.start()

    def state(self) -> State:
        """How far it is; where files go elsewhere afterwards, that is the second half."""
        written = sum(map(size_of, [*self._partial(), self._target]))
        half = (written + self.sent) // 2 if self._place.shelf.is_shared else written
        return replace(self._state, written=half)

    def stop(self) -> None:
        """Ends the child, and waits until nothing of it is left."""
        self._end()
        self._thread.join()

    @property
    def _target(self) -> Path:
        return self._place.folder / self._name

    def _partial(self) -> list[Path]:
        return [*self._place.folder.glob(f".{self._name}-*")]

    def _send(self, request: JsonObject) -> None:
        assert self._process.stdin is not None  # noqa: S101
        with suppress(BrokenPipeError):  # it died meanwhile: its end says so
            self._process.stdin.write(orjson.dumps(request) + b"\n")
            self._process.stdin.flush()

    def _tell(self) -> None:
        """Tells other servers of it until it is over, or was cancelled there."""
        while not self._over.wait(TELL_SECONDS):
            if not self._place.shelf.announce(self.state()):
                self._end()
                return

    def _hear(self) -> None:
        late = threading.Timer(MOST_SECONDS, self._give_up)
        late.daemon = True
        late.start()
        last = self._last_words()
        code = self._process.wait()
        for left in self._partial():
            rmtree(left, ignore_errors=True)
        ended = self._put_away(self._outcome(last, code))
        late.cancel()
        self._over.set()
        self._telling.join()
        outcome = self._settled(ended)
        if outcome is None or self._place.shelf.is_shared:
            rmtree(self._target, ignore_errors=True)
        os.close(self._place.lock)
        self._ended(outcome)

    def _last_words(self) -> JsonObject:
        """What the child told last, once it has told all."""
        assert self._process.stdout is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        last: JsonObject = {}
        for line in self._process.stdout:
            last = orjson.loads(line) if line.endswith(b"\n") else {}
            if NEEDED in last:
                self._state = replace(self._state, needed=int(str(last[NEEDED])))
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                stream.close()
        return last

    def _put_away(self, outcome: State) -> State:
        """The outcome once the files are where they stay."""
        if outcome.phase != "done":
            return outcome
        try:
            self._place.shelf.put_files(outcome, self._target, self)
        except Exception:  # without this thread nobody would hear of the export again
            if not self.stopped:
                log.exception("an export cannot be put away", model=self.request.model, kind=self.request.kind)
            return replace(outcome, phase="failed", message=TOO_LONG if self._too_long else NOT_PUT)
        return outcome

    def _settled(self, outcome: State) -> State | None:
        """What others are told; None where it was cancelled."""
        shelf = self._place.shelf
        try:
            if (self.stopped and not self._too_long) or not shelf.settle(outcome):
                shelf.discard(outcome)
                return None
        except TunesmithError as error:
            log.error("how an export ended cannot be told", model=self.request.model, error=str(error))
            return None
        return outcome

    def _outcome(self, last: JsonObject, code: int) -> State:
        if DONE in last:
            size = size_of(self._target)
            return replace(self._state, phase="done", written=size, needed=size)
        if REFUSED in last:
            return replace(self._state, phase="failed", message=str(last[REFUSED]))
        if FAULT in last:
            log.error("an export failed", model=self.request.model, kind=self.request.kind, exception=last[FAULT])
            return replace(self._state, phase="failed", message=FAILED)
        known = -code in set(signal.Signals)
        reason = signal.Signals(-code).name if known else f"exit status {code}"
        message = TOO_LONG if self._too_long else DIED.format(reason=reason)
        return replace(self._state, phase="failed", message=message)

    def _give_up(self) -> None:
        self._too_long = True
        self._end()

    def _end(self) -> None:
        self.stopped = True
        with suppress(ProcessLookupError, PermissionError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
