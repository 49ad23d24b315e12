"""Keeps a lease alive from a thread, and notices quickly when it is lost."""

import threading
import time
from types import TracebackType

from tunesmith.errors import ServiceUnavailable
from tunesmith.store import Lease, LeaseLost
from tunesmith.store.queue.leases import Queue

CHECK_SECONDS = 0.5  # how soon a cancelled trainer is stopped; each check costs one read
RENEWALS_PER_LEASE = 6  # so one may wait for other writers for five sixths of the lease


class Heartbeat:
    """Renews a lease while inside its `with` block.

    `lost` says why the job must be left, as soon as that is known.
    """

    def __init__(self, queue: Queue, lease: Lease, lease_seconds: float) -> None:
        self._queue = queue
        self._lease = lease
        self._seconds = lease_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {lease.job_id}", daemon=True)
        self.lost: LeaseLost | None = None

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def demand(self) -> None:
        """Raise LeaseLost if the lease is known to be lost."""
        if self.lost is not None:
            raise self.lost

    def _beat(self) -> None:
        renewed = time.monotonic()  # claimed just before
        while not self._ended.wait(min(CHECK_SECONDS, self._seconds / RENEWALS_PER_LEASE)):
            now = time.monotonic()
            try:
                if now - renewed >= self._seconds / RENEWALS_PER_LEASE:
                    self._queue.renew(self._lease, self._seconds)
                    renewed = now
                else:
                    self._queue.check_held(self._lease)
            except LeaseLost as error:
                self.lost = error
                return
            except ServiceUnavailable:  # wait for the database, but not longer than the lease lasts
                if now - renewed > self._seconds:
                    text = f"The database has not answered for {self._seconds:g} s, so job {self._lease.job_id}"
                    self.lost = LeaseLost(f"{text} may be another worker's now.", code="expired")
                    return
