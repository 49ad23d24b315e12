"""API keys as a page lists them; never a secret, which nobody has any more."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.store import KeyRow

LIFETIMES = (1, 7, 30, 90, 365)  # days
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Listed:
    """A key, the name of its project, and whether it is the one that is signed in."""

    key: KeyRow
    project: str
    state: str  # active, expired or revoked
    own: bool


def listed(rows: Sequence[KeyRow], projects: Mapping[str, str], own: str) -> list[Listed]:
    """The keys with the names of their projects."""
    return [Listed(row, projects.get(row.project, row.project), _state(row), row.id == own) for row in rows]


def _state(row: KeyRow) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= time.time() else "active"
