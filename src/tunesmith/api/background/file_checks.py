"""Checks uploaded files: small ones at once, large ones in the background.

A file stays `uploaded` until its check has ended. The check writes nothing but its result, so a process that dies
in the middle loses nothing: `start()` checks again what was left, and any other server on the database finds it within
a minute. A check in the background holds a lease, so that one server makes it. The pass over the rows is kept for the
jobs on them.

Checks run in child processes. One that takes too much time or memory, or crashes, ends its child alone, and the file
becomes `error`. Where the server itself died with a check under way, as in a power cut, it is begun once more.

Not covered: token counts of a particular base. A file does not know its base; the worker adds what the job's needs.
"""

import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, cast

import structlog
from fastapi import Depends, Request

from tunesmith.api.background.check_attempts import CheckAttempts
from tunesmith.check.isolated.children import (
    CheckBusy,
    CheckChildren,
    CheckDied,
    CheckFailed,
    CheckTimedOut,
    Verdict,
)
from tunesmith.check.isolated.look import Look
from tunesmith.check.isolated.task import CheckTask
from tunesmith.check.kept_scans import KeptScans
from tunesmith.errors import ServiceUnavailable
from tunesmith.jsonvalue import JsonObject
from tunesmith.moderation.scan_analyser import job_analysers
from tunesmith.settings import Settings
from tunesmith.store import FileRow, Store
from tunesmith.store.rows import FileStatus
from tunesmith.store.storage.bucket import StorageDamaged
from tunesmith.system.memory import total_memory

log = structlog.get_logger(__name__)

INLINE_BYTES = 1024 * 1024  # a megabyte takes well under a second; a client that polls would wait five
INLINE_SECONDS = 5.0  # then the client is answered, and the check begins anew in the background
BYTES_A_SECOND = 1_000_000  # what is added to a check's time; the slowest files seen are checked at 10 times as much
LEAST_MEMORY = 1 << 30  # bytes

RETRY_SECONDS = 1.0
LOOK_WAIT = 20.0  # seconds, of a page for a free child
LEFT_SECONDS = 15.0  # how often an idle process looks for files that another one has left
LEFT_AGE = 20  # seconds since a file came; a younger one is being checked at once

CHECK_FAILED = "The check of this file failed unexpectedly; the server's log has the details. Upload it again."
CHECK_DIED = (
    "The check of this file was given up: {reason} (settings check_seconds and check_memory_mib). A row of it may take "
    "very long to check, such as one whose tool schema branches again and again: simplify or remove it, or split the "
    "file, and upload it again."
)
CUT_OFF = "the server ended {times} times while it was checked"


class FileChecks:
    """The checks of one process, with a thread of their own."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._kept = KeptScans(settings.paths.checks)
        self._settings = settings
        self._analysers = job_analysers(settings)
        self._attempts = CheckAttempts(settings.paths.checking)
        self._children = CheckChildren()
        self._lookers = CheckChildren()  # places of their own: a page takes none from an upload
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread with every file whose check did not finish."""
        self._thread = threading.Thread(target=self._work, name="file-checks", daemon=True)
        self._thread.start()
        self.find_left(0)

    def stop(self) -> None:
        """Ends a check under way: the next start repeats it."""
        self._waiting.put(None)
        self._children.stop()
        self._lookers.stop()

    def submit(self, row: FileRow) -> FileRow:
        """Checks a small file now, or queues a large one; returns the row to answer with.

        Never a 5xx: the file is stored already, and the client would send it again.
        """
        if row.status != "uploaded":  # of an earlier attempt at the same upload
            return row
        if row.bytes <= INLINE_BYTES or row.purpose != "fine-tune":
            try:
                return self._check(row, INLINE_SECONDS) or row
            except ServiceUnavailable:
                log.warning("a file's check waits for the database", file=row.id)
            except (CheckBusy, CheckTimedOut, OSError):
                log.info("a file is checked in the background", file=row.id)
        self._waiting.put(row.id)
        return row

    def find_left(self, age: int = LEFT_AGE) -> None:
        """Queues the files whose check has not ended, if they came so many seconds ago."""
        for row in self._store.files.unchecked():
            if row.created_at <= time.time() - age:
                self._waiting.put(row.id)

    def discard(self, row: FileRow) -> None:
        """Removes what is kept of a deleted file.

        Another file of the same bytes is read again for its job.
        """
        self._kept.discard(row.sha256)

    def look(self, function: str, values: JsonObject, size: int) -> JsonObject | None:
        """What a function shows of a file of `size` bytes; None when it is gone.

        It is held to the limits of a check. Raises as `CheckChildren.look` does.
        """
        seconds = self._settings.check_seconds + size / BYTES_A_SECOND
        return self._lookers.look(Look(function, values, seconds, self._memory(), size), wait=LOOK_WAIT)

    def sweep(self) -> int:
        """Removes what is kept of files that are gone, such as expired ones.

        Returns how many passes were removed.
        """
        live: set[str] = set()
        page = self._store.files.page()
        live.update(row.sha256 for row in page.data)
        while page.has_more:
            page = self._store.files.page(after=page.data[-1].id)
            live.update(row.sha256 for row in page.data)
        return self._kept.sweep(live)

    def _work(self) -> None:
        self._children.warm()
        while True:
            try:
                file_id = self._waiting.get(timeout=LEFT_SECONDS)
                if file_id is None:
                    return
                self._check_in_background(file_id)
            except queue.Empty:
                with suppress(ServiceUnavailable):  # then at the next look
                    self.find_left()
            except (ServiceUnavailable, CheckBusy) as error:
                if self._children.stopped:
                    return
                log.warning("a file's check waits", file=file_id, reason=str(error))
                time.sleep(RETRY_SECONDS)
                self._waiting.put(file_id)
            except Exception:  # such as a full disk; without this thread no file would be checked in the background
                log.exception("a file's check could not be made; it is looked for again", file=file_id)
                time.sleep(RETRY_SECONDS)

    def _check_in_background(self, file_id: str) -> None:
        """Checks a file, unless another server does: it is looked for again while it is `uploaded`."""
        with self._store.leases.held(f"check {file_id}") as mine:
            row = self._store.files.get(file_id) if mine else None
            if row is None or row.status != "uploaded":
                return
            seconds = self._settings.check_seconds + row.bytes / BYTES_A_SECOND
            try:
                self._check(row, seconds)
            except CheckTimedOut:
                self._give_up(row, f"it took longer than {seconds:.0f} s")

    def _check(self, row: FileRow, seconds: float) -> FileRow | None:
        """None: the file was deleted meanwhile."""
        if row.purpose != "fine-tune":
            return self._store.files.set_status(row.id, "processed")
        with self._attempts.attempt(row.id) as earlier:
            if earlier > 1:
                return self._give_up(row, CUT_OFF.format(times=earlier))
            try:
                with self._store.files.held(row.id) as path:
                    verdict = self._children.check(self._task(row, path, seconds), wait=seconds)
            except FileNotFoundError:
                return None
            except StorageDamaged as damage:
                log.error("a file's bytes are damaged", file=row.id, reason=damage.message)
                return self._store.files.set_status(row.id, "error", details=damage.message)
            except CheckDied as death:
                return self._give_up(row, death.message)
            except CheckFailed as failure:
                log.error("a file's check failed", file=row.id, exception=failure.message)
                return self._store.files.set_status(row.id, "error", details=CHECK_FAILED)
        return None if verdict is None else self._store_verdict(row, verdict)

    def _store_verdict(self, row: FileRow, verdict: Verdict) -> FileRow | None:
        status: FileStatus = "error" if verdict.details else "processed"
        return self._store.files.set_status(row.id, status, details=verdict.details, report=verdict.report)

    def _give_up(self, row: FileRow, reason: str) -> FileRow | None:
        log.error("a file's check was given up", file=row.id, reason=reason)
        return self._store.files.set_status(row.id, "error", details=CHECK_DIED.format(reason=reason))

    def _task(self, row: FileRow, path: Path, seconds: float) -> CheckTask:
        return CheckTask(
            path=path,
            sha256=row.sha256,
            kept=self._settings.paths.checks,
            analysers=self._analysers,
            seconds=seconds,
            memory=self._memory(),
        )

    def _memory(self) -> int:
        """Bytes that a check may take."""
        return self._settings.check_memory_mib << 20 or max(LEAST_MEMORY, total_memory() // 4)


async def get_checks(request: Request) -> FileChecks:
    """The checks of this application."""
    return cast(FileChecks, request.app.state.checks)


ChecksDep = Annotated[FileChecks, Depends(get_checks)]
