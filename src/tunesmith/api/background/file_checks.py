"""Checks uploaded files: small ones at once, large ones in a background thread.

A file stays `uploaded` until its check has ended. The check writes nothing but its result, so a process that dies
in the middle loses nothing: `start()` checks again what was left. The pass over the rows is kept for the jobs on them.

Not covered: token counts of a particular base. A file does not know its base; the worker adds what the job's needs.
"""

import queue
import threading
import time
from dataclasses import replace
from traceback import format_exc
from typing import Annotated, cast

import structlog
from fastapi import Depends, Request

from tunesmith.check.file_check import CheckOptions, report_on, scan_of
from tunesmith.check.kept_scans import KeptScans
from tunesmith.check.report.openai_wording import status_details
from tunesmith.errors import ServiceUnavailable
from tunesmith.moderation.scan_analyser import job_analysers
from tunesmith.settings import Settings
from tunesmith.store import FileRow, Store
from tunesmith.store.rows import FileStatus

log = structlog.get_logger(__name__)

INLINE_BYTES = 1024 * 1024  # a megabyte takes well under a second; a client that polls would wait five

RETRY_SECONDS = 1.0

CHECK_FAILED = "The check of this file failed unexpectedly; the server's log has the details. Upload it again."


class FileChecks:
    """The checks of one process, with a thread of their own."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._kept = KeptScans(settings.paths.checks)
        self._options = CheckOptions(analysers=job_analysers(settings))
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread with every file whose check did not finish."""
        self._thread = threading.Thread(target=self._work, name="file-checks", daemon=True)
        self._thread.start()
        for row in self._store.files.unchecked():
            self._waiting.put(row.id)

    def stop(self) -> None:
        """Does not wait for a check under way: the next start repeats it."""
        self._waiting.put(None)

    def submit(self, row: FileRow) -> FileRow:
        """Checks a small file now, or queues a large one; returns the row to answer with.

        Never a 5xx: the file is stored already, and the client would send it again.
        """
        if row.status != "uploaded":  # of an earlier attempt at the same upload
            return row
        if row.bytes <= INLINE_BYTES or row.purpose != "fine-tune":
            try:
                return self._check(row) or row
            except ServiceUnavailable:
                log.warning("a file's check waits for the database", file=row.id)
        self._waiting.put(row.id)
        return row

    def discard(self, row: FileRow) -> None:
        """Removes what is kept of a deleted file.

        Another file of the same bytes is read again for its job.
        """
        self._kept.discard(row.sha256)

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
        while (file_id := self._waiting.get()) is not None:
            try:
                row = self._store.files.get(file_id)
                if row is not None:
                    self._check(row)
            except ServiceUnavailable:
                log.warning("a file's check waits for the database", file=file_id)
                time.sleep(RETRY_SECONDS)
                self._waiting.put(file_id)

    def _check(self, row: FileRow) -> FileRow | None:
        """None: the file was deleted meanwhile."""
        if row.purpose != "fine-tune":
            return self._store.files.set_status(row.id, "processed")
        try:
            path = self._store.blobs.path(row.id)
            started = time.perf_counter()
            report = report_on(path, scan_of(path, self._options, self._kept.of(row.sha256)), self._options)
            report = replace(report, seconds=time.perf_counter() - started)
        except FileNotFoundError:
            return None
        except Exception:
            log.error("a file's check failed", file=row.id, exception=format_exc())
            return self._store.files.set_status(row.id, "error", details=CHECK_FAILED)
        details = status_details(report)
        status: FileStatus = "error" if details else "processed"
        return self._store.files.set_status(row.id, status, details=details, report=report.to_json())


async def get_checks(request: Request) -> FileChecks:
    """The checks of this application."""
    return cast(FileChecks, request.app.state.checks)


ChecksDep = Annotated[FileChecks, Depends(get_checks)]
