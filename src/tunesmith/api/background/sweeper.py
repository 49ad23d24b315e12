"""Removes expired files, uploads, their parts and old exports at intervals.

Several servers may do so at once.

Expired objects are invisible before that; this frees their disk space.
"""

import threading

import structlog

from tunesmith.api.background.file_checks import FileChecks
from tunesmith.api.exports.service import Exports
from tunesmith.store import Store

log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps every `seconds`, in a thread of its own."""

    def __init__(self, store: Store, seconds: float, checks: FileChecks, exports: Exports) -> None:
        self._store = store
        self._checks = checks
        self._exports = exports
        self._seconds = seconds
        self._stopped = threading.Event()

    def start(self) -> None:
        """Starts the thread. It sweeps later, since opening the store has swept already."""
        self._stopped.clear()
        threading.Thread(target=self._work, name="sweeper", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread after the sweep it is in."""
        self._stopped.set()

    def _work(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                gone = self._store.expire() + self._checks.sweep() + self._exports.sweep()
            except Exception:  # a database that does not answer now may answer next time
                log.exception("a sweep failed; the next one will try again")
            else:
                log.debug("swept", gone=gone)
