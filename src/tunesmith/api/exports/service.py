"""The exports of one data directory, or of all servers on a bucket.

Each server writes one at a time, and what was written is kept for a day. With the setting `storage` it goes to the
bucket, and every server offers it.

A child process writes it, at the lowest priority. A lock that server and child hold keeps other servers of the same
data directory from writing beside it, and is free once both are gone, however they ended.
"""

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import structlog

from tunesmith.api.exports.bucket_shelf import WRITTEN_ELSEWHERE, BucketShelf
from tunesmith.api.exports.request import ExportRequest
from tunesmith.api.exports.shelf import ExportFile, LocalShelf, Shelf
from tunesmith.api.exports.state import State
from tunesmith.api.exports.writing import Workplace, Writing
from tunesmith.errors import NotFound, ServiceUnavailable
from tunesmith.export.kinds import Kind
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.storage.bucket import open_bucket

log = structlog.get_logger(__name__)

KEPT_SECONDS = 86_400.0
LOCK = "lock"


class Exports:
    """Any thread may call."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._folder = settings.paths.exports
        self._shelf = _shelf(settings, store.leases.now)
        self._mutex = threading.Lock()
        self._writing: Writing | None = None

    def start(self, request: ExportRequest) -> None:
        """Begins to write it; an earlier export of this model and kind is removed.

        Raises ServiceUnavailable while another is written.
        """
        with self._mutex:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._locked()
            try:
                with self._alone(request):
                    place = Workplace(self._folder, self._shelf, lock)
                    self._writing = Writing(request, place, self._settings, self._ended)
            except BaseException as error:
                os.close(lock)
                if not isinstance(error, OSError):
                    raise
                self._shelf.remove(request.model, request.kind)
                text = f"The export cannot be started ({error.strerror}). Try again later."
                raise ServiceUnavailable(text) from error  # no process or memory just now
            self._writing.begin()

    def states(self, model: str) -> Mapping[Kind, State]:
        """Where the model's exports stand, by their kinds."""
        found, mine = dict(self._shelf.states(model)), self.running()
        if mine is not None and mine.model == model:
            found[mine.kind] = mine
        return found

    def running(self) -> State | None:
        """What this server is writing."""
        writing = self._writing
        return None if writing is None else writing.state()

    def files(self, model: str, kind: Kind) -> list[ExportFile]:
        """The files of a finished export. Raises NotFound."""
        found = self.states(model).get(kind)
        files = self._shelf.files(found) if found is not None and found.phase == "done" else []
        if not files:
            raise NotFound("This export is not there (any more). Prepare it again.")
        return files

    def remove(self, model: str, kind: Kind) -> None:
        """Ends it if it is being written, and removes what there is of it."""
        with self._mutex:  # which `start` holds until the writing is heard
            writing = self._writing
        if writing is not None and (writing.request.model, writing.request.kind) == (model, kind):
            writing.stop()
        with self._mutex:
            self._shelf.remove(model, kind)

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
        gone = self._shelf.sweep(self._is_kept)
        with suppress(ServiceUnavailable), self._mutex:
            if self._folder.is_dir() and self._writing is None:
                os.close(self._locked())
        return gone

    @contextmanager
    def _alone(self, request: ExportRequest) -> Iterator[None]:
        """Inside the block no other server begins this export. Raises ServiceUnavailable where one does."""
        if not self._shelf.is_shared:
            yield
            return
        with self._store.leases.held(f"export {request.kind} {request.model}") as mine:
            if not mine:
                raise ServiceUnavailable(WRITTEN_ELSEWHERE)
            yield

    def _is_kept(self, state: State) -> bool:
        young = state.phase == "running" or state.ended_at > time.time() - KEPT_SECONDS
        return young and self._store.models.get(state.model) is not None

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
        for left in self._folder.iterdir():  # also a finished one of which nobody could be told
            if left.is_dir() and not left.with_suffix(".json").exists():
                shutil.rmtree(left, ignore_errors=True)
        return lock

    def _ended(self, state: State | None) -> None:
        """None: it was cancelled."""
        if state is not None:
            log.info("an export has ended", model=state.model, kind=state.kind, phase=state.phase)
        self._writing = None


def _shelf(settings: Settings, clock: Callable[[], float]) -> Shelf:
    folder = settings.paths.exports
    if settings.storage is None:
        return LocalShelf(folder)
    return BucketShelf(open_bucket(settings.storage, settings.storage_endpoint), folder, clock)
