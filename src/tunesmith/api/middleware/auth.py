"""Authentication: every call under /v1 needs a key.

A call that the dashboard makes on behalf of someone who is signed in has it in its scope (`SIGNED_IN`), where no header
can put anything.

Unknown paths are no exception; `/healthz` and the dashboard's pages do not pass here.

A middleware rather than a dependency, because FastAPI reads a body before it resolves dependencies: without this,
anyone could fill the disk with an upload and only then be told 401.
"""

from dataclasses import replace

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.api.http.audit import note_refusal
from tunesmith.api.http.errors import error_response
from tunesmith.api.http.rules import Rules
from tunesmith.api.middleware.roles import demand_allowed
from tunesmith.errors import AuthenticationFailed, TunesmithError
from tunesmith.store import KeyRow, Store

# No path: behind a proxy every caller comes from this machine. `tunesmith serve` prints it when it starts.
WHERE = (
    "You can find your API key in the file `api-key` of the server's data directory, and make one with "
    "`tunesmith keys create NAME` there."
)


SIGNED_IN = "tunesmith.signed_in"  # of a scope: the key of the session that the call is made for


class Authentication:
    """Puts the key and the route's rule into the request's state, or refuses."""

    def __init__(self, app: ASGIApp, store: Store, rules: Rules) -> None:
        self.app = app
        self.store = store
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on if its key may make it; answers 401, 403 or 503 otherwise."""
        if scope["type"] != "http" or not guarded(scope["path"]):
            await self.app(scope, receive, send)
            return
        headers, key = Headers(scope=scope), None
        raw = sent_key(headers)
        try:
            project = headers.get("openai-project", "").strip()
            key = await self._signed_in(scope, project) or await self._authenticated(raw, project)
            rule = self.rules.find(scope["method"], scope["path"])
            demand_allowed(key, rule, scope["method"], scope["path"])
        except TunesmithError as error:  # ServiceUnavailable too: without its database nobody is known
            note_refusal(scope, error, key, raw)
            await error_response(error)(scope, receive, send)
            return
        scope.setdefault("state", {}).update(key=key, rule=rule)
        await self.app(scope, receive, send)

    async def _authenticated(self, raw: str | None, project: str) -> KeyRow:
        """A cached key saves a thread and a database query, a third of what a short request costs."""
        known = None if raw is None else self.store.keys.remembered(raw)
        if known is not None and project in ("", known.project):
            return known
        return await run_in_threadpool(self._key, raw, project)

    async def _signed_in(self, scope: Scope, project: str) -> KeyRow | None:
        """The key that the session's call acts with; None for a call from outside."""
        key: KeyRow | None = scope.get(SIGNED_IN)
        if key is None or project in ("", key.project):
            return key
        return await run_in_threadpool(self._acting_in, key, project)

    def _key(self, raw: str | None, project: str) -> KeyRow:
        if raw is None:
            raise AuthenticationFailed(
                "You didn't provide an API key. Provide it in an Authorization header using Bearer auth "
                f"(i.e. Authorization: Bearer YOUR_KEY), or in api-key as Azure's clients do. {WHERE}"
            )
        key = self.store.keys.verify(raw)
        if key is None:
            raise AuthenticationFailed(
                f"Incorrect API key provided: {mask(raw)}. {WHERE} A key that was revoked or has expired, and one of "
                "an archived project, opens nothing.",
                code="invalid_api_key",
            )
        return self._acting_in(key, project or key.project)

    def _acting_in(self, key: KeyRow, project: str) -> KeyRow:
        """The key with the project that the call acts in: owners choose, others have only one."""
        if project == key.project:
            return key
        if key.role != "owner":
            raise AuthenticationFailed(
                f"OpenAI-Project header should match project for API key: the header says {project!r}, the key belongs "
                f"to {key.project!r}. Leave the header out (unset OPENAI_PROJECT_ID), or send that.",
                code="mismatched_project",
            )
        row = self.store.projects.get(project)
        if row is None or row.archived_at is not None:
            raise AuthenticationFailed(
                f"OpenAI-Project header: there is no active project {project!r} here. Leave the header out (unset "
                "OPENAI_PROJECT_ID), or send an id from `tunesmith projects list`.",
                code="mismatched_project",
            )
        return replace(key, project=project)


def guarded(path: str) -> bool:
    """Whether calls of this path need a key."""
    return path == "/v1" or path.startswith("/v1/")


def sent_key(headers: Headers) -> str | None:
    """The key of a request: of `Authorization: Bearer KEY`, else of Azure's `api-key`."""
    return bearer(headers.get("authorization")) or headers.get("api-key", "").strip() or None


def bearer(authorization: str | None) -> str | None:
    """The key of `Bearer KEY`; None where there is none."""
    scheme, _, raw = (authorization or "").partition(" ")
    return raw.strip() or None if scheme.lower() == "bearer" else None


def mask(raw: str) -> str:
    """Shows at most 8 + 4 characters of a key, never more than half of it.

    `not-a-re***ized`.
    """
    if len(raw) < 2:
        return "***"
    head, tail = min(8, len(raw) // 3), min(4, len(raw) // 6)
    return f"{raw[:head]}***{raw[len(raw) - tail :]}"
