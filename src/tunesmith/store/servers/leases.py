"""Work that one of several servers does at a time, by name.

A lease is renewed while the work lasts, and ends with its holder: at once where the holder's process was on this
machine and is gone, else within `LEASE_SECONDS`. Two may hold one only after a silence of the database that long, so
the work has to bear being done twice.
"""

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import delete, insert, select, update

from tunesmith.errors import TunesmithError
from tunesmith.store.schema.db import LEASE_KEY, Database
from tunesmith.store.schema.server_tables import work_leases

log = structlog.get_logger(__name__)

LEASE_SECONDS = 30.0
RENEWALS = 3  # within a lease


class WorkLeases:
    """The leases of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    @contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Hold the lease inside the block; False where another process does.

        Raises ServiceUnavailable before the block.
        """
        if not self._take(name):
            yield False
            return
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(name, ended), name="lease", daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            ended.set()
            renewing.join()
            self._release(name)

    def now(self) -> float:
        """Unix seconds by the database's clock, which servers have in common.

        Raises ServiceUnavailable.
        """
        with self._database.read() as connection:
            return self._database.clock(connection)

    def _take(self, name: str) -> bool:
        with self._database.write() as connection:
            self._database.advisory_lock(connection, LEASE_KEY)
            now = self._database.clock(connection)
            row = connection.execute(select(work_leases).where(work_leases.c.name == name)).one_or_none()
            if row is not None and row.until > now and not _is_gone(row.holder, self.holder):
                return False
            connection.execute(delete(work_leases).where((work_leases.c.name == name) | (work_leases.c.until < now)))
            values = {"name": name, "holder": self.holder, "until": now + LEASE_SECONDS}
            connection.execute(insert(work_leases).values(values))
        return True

    def _renew(self, name: str, ended: threading.Event) -> None:
        while not ended.wait(LEASE_SECONDS / RENEWALS):
            try:
                with self._database.write() as connection:
                    until = self._database.clock(connection) + LEASE_SECONDS
                    mine = (work_leases.c.name == name) & (work_leases.c.holder == self.holder)
                    connection.execute(update(work_leases).where(mine).values(until=until))
            except TunesmithError as error:
                log.warning("a lease could not be renewed", name=name, reason=error.message)

    def _release(self, name: str) -> None:
        mine = (work_leases.c.name == name) & (work_leases.c.holder == self.holder)
        try:
            with self._database.write() as connection:
                connection.execute(delete(work_leases).where(mine))
        except TunesmithError as error:  # it ends by itself
            log.warning("a lease could not be given back", name=name, reason=error.message)


def _is_gone(holder: str, ours: str) -> bool:
    """Whether a holder was a process of this machine that has ended."""
    host, pid, _ = holder.rsplit(":", 2)
    own_host, own_pid, _ = ours.rsplit(":", 2)
    if host != own_host:
        return False
    if pid == own_pid:  # of an earlier process with our number, as in a container that was started again
        return holder != ours
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
