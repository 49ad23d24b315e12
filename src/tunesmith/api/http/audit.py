"""Who changed or was refused what, for the audit log (`tunesmith.system.audit`)."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import Scope

from tunesmith.api.http.context import get_key
from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonValue
from tunesmith.store import KeyRow
from tunesmith.system import audit

REFUSALS = (401, 403)
LONGEST = 200  # characters of a path or header in a line
LONG_KEY = 16  # of shorter ones, four characters would be too much


@dataclass(frozen=True, slots=True)
class Audit:
    """What one call did, and from where."""

    who: str
    where: str

    def note(self, deed: str, what: str, **details: JsonValue) -> None:
        """Writes a change that has been made: `note("key.created", row.id)`."""
        audit.note_change(deed, what, who=self.who, where=self.where, **details)


async def get_audit(request: Request) -> Audit:
    """The audit of a call. Raises AuthenticationFailed where it has no key."""
    return Audit(_named(await get_key(request)), _where(request.scope))


AuditDep = Annotated[Audit, Depends(get_audit)]


def note_refusal(scope: Scope, error: TunesmithError, key: KeyRow | None = None, raw: str | None = None) -> None:
    """Writes a 401 or 403; nothing for any other error.

    `raw`: the key that was sent, if it is unknown.
    """
    if error.status not in REFUSALS:
        return
    key = key or scope.get("state", {}).get("key")
    unknown = "no key" if raw is None else f"an unknown key (…{raw[-4:] if len(raw) >= LONG_KEY else ''})"
    what = f"{scope['method']} {scope['path']}"[:LONGEST]
    who = unknown if key is None else _named(key)
    audit.note_refusal("refused", what, who=who, where=_where(scope), status=error.status, code=error.code)


def _named(key: KeyRow) -> str:
    return f"{key.id} (…{key.hint}, {key.role} in {key.project})"


def _where(scope: Scope) -> str:
    """The caller's address; what a proxy says is shown as its word."""
    client, forwarded = scope.get("client"), Headers(scope=scope).get("x-forwarded-for")
    address = client[0] if client else "unknown"
    return address if forwarded is None else f"{address}, for {forwarded[:LONGEST]}"
