"""Whether anything was written since: told in microseconds, so that an answer may be kept for as long as it holds.

SQLite counts every commit of every connection and process (`PRAGMA data_version`, in shared memory; it never waits
here). PostgreSQL has nothing so cheap, so nothing is known there.
"""

import sqlite3
import threading


class DataVersion:
    """Threads may share it. `path`: the SQLite database; None: another one."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def read(self) -> int | None:
        """Another number after every commit. None: it cannot be told now, so ask the database itself."""
        if self._path is None:
            return None
        try:
            with self._lock:
                return int(self._open(self._path).execute("PRAGMA data_version").fetchall()[0][0])
        except sqlite3.Error:  # someone holds the file alone, or it is gone
            return None

    def _open(self, path: str) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        return self._connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
