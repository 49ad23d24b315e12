"""Whether anything was written since, told in microseconds.

So an answer can be cached for exactly as long as it is true. SQLite counts every commit of every connection and
process (`PRAGMA data_version`, in shared memory; reading it never waits). PostgreSQL has nothing as cheap, so there
the version is unknown.
"""

import sqlite3
import threading


class DataVersion:
    """The version of a SQLite database's contents; safe to share between threads.

    `path` None: another database, of which nothing is known.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def read(self) -> int | None:
        """Return a number that changes with every commit; None when it is unknown.

        Then ask the database itself.
        """
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
        """Close the connection; `read` would open another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
