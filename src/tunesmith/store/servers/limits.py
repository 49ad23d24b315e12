"""Rate limits that all servers on one PostgreSQL share.

A project's buckets and its answers under way are rows, and a request that has a limit is admitted in one short
transaction, one after the other for each project: what several servers admit together is what one would. Nothing of it
waits for the disk, so after a crash of the database the limits may begin full.

On SQLite there is one server, whose own memory does the same without a write (`api.middleware.rate_limits`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Connection, text

from tunesmith.store.schema.db import Database

RUNNING_SECONDS = 60.0  # how long the answers of a server count that has not said again that they go on
FORGET_SECONDS = 3600.0  # since a bucket was used: it is full by then, but for a debt of an hour

_BEGIN = text("SELECT set_config('synchronous_commit', 'off', true), pg_advisory_xact_lock(:lock)")
_RUNNING = text(
    "SELECT coalesce(sum(running) FILTER (WHERE server = :server), 0) AS ours,"
    " coalesce(sum(running) FILTER (WHERE server <> :server), 0) AS elsewhere"
    " FROM limit_running WHERE project = :project AND until > extract(epoch FROM clock_timestamp())"
)
_LEVELS = text(
    "SELECT what, level + greatest(0, extract(epoch FROM clock_timestamp()) - at) * per_minute / 60 AS level"
    " FROM limit_levels WHERE project = :project"
)
_CHARGE = text(
    "INSERT INTO limit_levels (project, what, per_minute, level, at)"
    " VALUES (:project, :what, :per_minute, :level, extract(epoch FROM clock_timestamp()))"
    " ON CONFLICT (project, what) DO UPDATE"
    " SET level = excluded.level, per_minute = excluded.per_minute, at = excluded.at"
)
_COUNT = text(
    "INSERT INTO limit_running (project, server, running, until)"
    " VALUES (:project, :server, greatest(0, :more), extract(epoch FROM clock_timestamp()) + :seconds)"
    " ON CONFLICT (project, server) DO UPDATE SET until = excluded.until, running = greatest(0, :more"
    " + CASE WHEN limit_running.until < extract(epoch FROM clock_timestamp()) THEN 0 ELSE limit_running.running END)"
)
_RENEW = text(
    "UPDATE limit_running SET running = coalesce(CAST(:running AS bigint), running),"
    " until = extract(epoch FROM clock_timestamp()) + :seconds"
    " WHERE project = :project AND server = :server"
)
_FORGET = (
    text("DELETE FROM limit_levels WHERE at < extract(epoch FROM clock_timestamp()) - :seconds"),
    text("DELETE FROM limit_running WHERE until < extract(epoch FROM clock_timestamp()) - :seconds"),
)


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request takes out of one bucket of its project."""

    what: str
    per_minute: int
    amount: float


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may begin, and what its project has now.

    `levels`: by the name of each bucket, with the charges taken off if it was admitted.
    """

    admitted: bool
    levels: Mapping[str, float]
    elsewhere: int = 0  # answers that other servers have under way


class SharedLimits:
    """The limits of all projects, in the database; only on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def admit(self, project: str, charges: Sequence[Charge], *, server: str = "", most: int = 0) -> Admission:
        """Take all charges, and a place among at most `most` answers; or nothing.

        `most`: 0 for any number.
        """
        with self._database.write() as connection:
            _begin(connection, project)
            ours, elsewhere = _running(connection, project, server) if most else (0, 0)
            levels = _levels(connection, project, charges)
            fits = all(levels[one.what] >= min(one.amount, one.per_minute) for one in charges)
            if (most and ours + elsewhere >= most) or not fits:
                return Admission(False, levels, elsewhere)
            levels = _charge(connection, project, charges, levels)
            if most:
                _count(connection, project, server, 1)
        return Admission(True, levels, elsewhere)

    def settle(self, project: str, charges: Sequence[Charge], *, server: str = "", places: int = 0) -> None:
        """Take what turned out to be needed, also beyond what is there.

        Negative amounts are given back. `places`: answers that have begun, or with a minus ended.
        """
        with self._database.write() as connection:
            _begin(connection, project)
            _charge(connection, project, charges, _levels(connection, project, charges))
            if places:
                _count(connection, project, server, places)

    def renew(self, server: str, running: Mapping[str, int | None]) -> None:
        """Say that answers are still under way.

        `running`: their number by project; None for as many as it was told.
        """
        values = [{"project": project, "server": server, "running": running[project]} for project in sorted(running)]
        with self._database.write() as connection:
            connection.execute(_RENEW, [{**one, "seconds": RUNNING_SECONDS} for one in values])

    def expire(self) -> int:
        """Remove what says nothing any more, and return how many rows that was."""
        with self._database.write() as connection:
            return sum(connection.execute(one, {"seconds": FORGET_SECONDS}).rowcount for one in _FORGET)


def _begin(connection: Connection, project: str) -> None:
    """One request of a project after the other; the commit does not wait for the disk."""
    name = sha256(f"limits\0{project}".encode("utf-8", "surrogatepass")).digest()
    connection.execute(_BEGIN, {"lock": int.from_bytes(name[:8], signed=True)})


def _running(connection: Connection, project: str, server: str) -> tuple[int, int]:
    row = connection.execute(_RUNNING, {"project": project, "server": server}).one()
    return int(row.ours), int(row.elsewhere)


def _levels(connection: Connection, project: str, charges: Sequence[Charge]) -> dict[str, float]:
    if not charges:
        return {}
    found = {row.what: float(row.level) for row in connection.execute(_LEVELS, {"project": project})}
    return {one.what: min(float(one.per_minute), found.get(one.what, float(one.per_minute))) for one in charges}


def _charge(
    connection: Connection, project: str, charges: Sequence[Charge], levels: Mapping[str, float]
) -> dict[str, float]:
    left = {one.what: min(float(one.per_minute), levels[one.what] - one.amount) for one in charges}
    values = [
        {"project": project, "what": one.what, "per_minute": one.per_minute, "level": left[one.what]} for one in charges
    ]
    if values:
        connection.execute(_CHARGE, values)
    return left


def _count(connection: Connection, project: str, server: str, more: int) -> None:
    values = {"project": project, "server": server, "more": more, "seconds": RUNNING_SECONDS}
    connection.execute(_COUNT, values)
