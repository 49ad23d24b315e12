"""The exports of one data directory.

One is written at a time, and what was written is kept for a day.

A child process writes it, at the lowest priority. A lock that the child holds keeps other servers of the same data
directory from writing beside it, and is free once the child is gone, however it ended.

Not covered: servers on other machines have exports of their own.
"""

import fcntl
import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import structlog

from tunesmith.api.exports.order import Order
from tunesmith.api.exports.state import State, name_of, read_state, write_state
from tunesmith.api.exports.writing import Writing
from tunesmith.errors import NotFound, ServiceUnavailable
from tunesmith.export.kinds import Kind
from tunesmith.settings import Settings
from tunesmith.store import Store

log = structlog.get_logger(__name__)

KEPT_SECONDS = 86_400.0
LOCK = "lock"


class Exports:
    """Any thread may call."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._folder = settings.paths.exports
        self._mutex = threading.Lock()
        self._writing: Writing | None = None

    def start(self, order: Order) -> None:
        """Begins to write it; an earlier export of this model and kind is removed.

        Raises ServiceUnavailable while another is written.
        """
        with self._mutex:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._locked()
            try:
                self._remove(order.model, order.kind)
                self._writing = Writing(order, self._folder, self._settings, lock, self._ended)
                self._writing.begin()
            except OSError as error:  # no process or memory just now
                raise ServiceUnavailable(
                    f"The export cannot be started ({error.strerror}). Try again later."
                ) from error
            finally:
                os.close(lock)  # the child has it

    def state(self, model: str, kind: Kind) -> State | None:
        """Where it stands; None where there is none."""
        writing = self._writing
        if writing is not None and (writing.order.model, writing.order.kind) == (model, kind):
            return writing.state()
        kept = read_state(self._folder / f"{name_of(model, kind)}.json")
        if kept is None or (kept.phase == "done" and not self._path(model, kind).is_dir()):
            return None
        return kept

    def running(self) -> State | None:
        """What this server is writing."""
        return None if self._writing is None else self._writing.state()

    def folder(self, model: str, kind: Kind) -> Path:
        """The folder of a finished export. Raises NotFound."""
        found = self.state(model, kind)
        if found is None or found.phase != "done":
            raise NotFound("This export is not there (any more). Prepare it again.")
        return self._path(model, kind)

    def remove(self, model: str, kind: Kind) -> None:
        """Ends it if it is being written, and removes what there is of it."""
        with self._mutex:  # which `start` holds until the writing is heard
            writing = self._writing
        if writing is not None and (writing.order.model, writing.order.kind) == (model, kind):
            writing.stop()
        with self._mutex:
            self._remove(model, kind)

    def stop(self) -> None:
        """Ends the one that is written."""
        with self._mutex:
            writing = self._writing
        if writing is not None:
            writing.stop()

    def sweep(self) -> int:
        """Removes exports that are a day old or whose model is gone; counts them.

        What dead children left goes too.
        """
        gone = 0
        for path in self._folder.glob("*.json"):
            if not self._is_kept(read_state(path)):
                with self._mutex:
                    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                    path.unlink(missing_ok=True)
                gone += 1
        with suppress(ServiceUnavailable), self._mutex:
            if self._folder.is_dir() and self._writing is None:
                os.close(self._locked())
        return gone

    def _is_kept(self, state: State | None) -> bool:
        young = state is not None and state.ended_at > time.time() - KEPT_SECONDS
        return young and state is not None and self._store.models.get(state.model) is not None

    def _locked(self) -> int:
        """The lock, with nothing left of children that died. Raises ServiceUnavailable while another is written."""
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ServiceUnavailable(
                "Another export is being written, and one is written at a time. Wait until it has ended, or cancel it."
            ) from None
        for left in self._folder.glob(".*-*"):
            shutil.rmtree(left, ignore_errors=True)
        return lock

    def _ended(self, state: State | None) -> None:
        """None: it was cancelled."""
        if state is not None:
            write_state(self._folder, state)
            log.info("an export has ended", model=state.model, kind=state.kind, phase=state.phase)
        self._writing = None

    def _remove(self, model: str, kind: Kind) -> None:
        path = self._path(model, kind)
        path.with_suffix(".json").unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)

    def _path(self, model: str, kind: Kind) -> Path:
        return self._folder / name_of(model, kind)
