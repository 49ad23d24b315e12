"""Runs `check.file_check` on uploaded files: small ones before the upload's answer, large ones in a thread behind it.

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

BROKE_OFF = "The check of this file broke off; the server's log has the details. Upload it again."


class FileChecks:
    """The checks of one server: what is small is checked by whoever uploads it, the rest by one thread."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._kept = KeptScans(settings.paths.checks)
        self._options = CheckOptions(analysers=job_analysers(settings))
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread and hands it every file whose check never ended."""
        self._thread = threading.Thread(target=self._work, name="file-checks", daemon=True)
        self._thread.start()
        for row in self._store.files.unchecked():
            self._waiting.put(row.id)

    def stop(self) -> None:
        """Does not wait for a check that runs: the next start repeats it."""
        self._waiting.put(None)

    def submit(self, row: FileRow) -> FileRow:
        """The row as the upload's answer shows it. No 5xx: the file is stored, and would be sent again."""
        if row.status != "uploaded":  # of an earlier attempt at the same upload
            return row
        if row.bytes <= INLINE_BYTES or row.purpose != "fine-tune":
            try:
                return self._check(row) or row
            except ServiceUnavailable:
                log.warning("a file's check waits for the database", file=row.id)
        self._waiting.put(row.id)
        return row

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
            log.error("a file's check broke off", file=row.id, exception=format_exc())
            return self._store.files.set_status(row.id, "error", details=BROKE_OFF)
        details = status_details(report)
        status: FileStatus = "error" if details else "processed"
        return self._store.files.set_status(row.id, status, details=details, report=report.to_json())


async def get_checks(request: Request) -> FileChecks:
    return cast(FileChecks, request.app.state.checks)


ChecksDep = Annotated[FileChecks, Depends(get_checks)]
