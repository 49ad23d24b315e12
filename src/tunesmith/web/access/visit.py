"""One look at a page: who looks, in which language, and what that key may ask.

async def page(request: Request) -> Response:
    visit = await signed_in(request)
    jobs = await visit.api.get("/v1/fine_tuning/jobs", limit=20)
    return render(request, "jobs.html", jobs=jobs["data"])
"""

import hmac
from dataclasses import dataclass, replace
from typing import cast

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from tunesmith.api.http.context import Parts
from tunesmith.api.middleware.roles import RANKS
from tunesmith.errors import PermissionDenied
from tunesmith.settings import Settings
from tunesmith.store import KeyRow, Role, ScopedStore, Store
from tunesmith.web.access.api_call import Api
from tunesmith.web.access.guard import GATEWAY
from tunesmith.web.live.feed import Feeds

FORM = "application/x-www-form-urlencoded"
PROJECT_COOKIE = "tunesmith_project"  # of owners, who may look at every project


class SignedOut(Exception):
    """Nobody is signed in, or the session or its key has ended."""


@dataclass(frozen=True, slots=True)
class Web:
    """The process's long-lived parts: the API's, and what pages have besides."""

    parts: Parts
    api: FastAPI
    feeds: Feeds

    @property
    def store(self) -> Store:
        """All projects' objects."""
        return self.parts.store


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks, and what they may use; the store is limited to the key's project.

    `csrf`: goes with every form and script's call, as the field `csrf` or the header X-CSRF-Token.
    """

    key: KeyRow
    settings: Settings
    store: ScopedStore
    api: Api
    csrf: str

    def may(self, role: Role) -> bool:
        """Whether the key may do what takes this role."""
        return RANKS[self.key.role] >= RANKS[role]


async def signed_in(request: Request) -> Visit:
    """The visit of a request; its form's token is checked.

    Raises SignedOut, and PermissionDenied for a form without its token.
    """
    known: Visit | None = getattr(request.state, "visit", None)
    if known is not None:
        return known
    token = request.cookies.get(session_cookie(request), "")
    if (key := await run_in_threadpool(web_of(request).store.sessions.find, token)) is None:
        raise SignedOut
    csrf = csrf_token(token)
    await _require_token(request, csrf)
    request.state.visit = visit = await run_in_threadpool(_visit, request, key, csrf)
    return visit


def web_of(request: Request) -> Web:
    """The parts of the process that answers."""
    return cast(Web, request.app.state.web)


def session_cookie(request: Request) -> str:
    """The name of the session's cookie.

    It has the port in it that the browser asked for: cookies know no ports, and a machine may have two servers. Not the
    port that we listen on: of two servers behind one address each has to know the other's.
    """
    try:
        port = request.url.port
    except ValueError:  # a Host that no browser sends
        port = None
    return f"tunesmith_session_{port or 0}"


def csrf_token(session: str) -> str:
    """What forms carry.

    Whoever may read the page knows it; it is useless without the cookie.
    """
    return hmac.new(session.encode("utf-8", "surrogatepass"), b"csrf", "sha256").hexdigest()


def _visit(request: Request, key: KeyRow, csrf: str) -> Visit:
    web, wanted = web_of(request), request.cookies.get(PROJECT_COOKIE)
    if wanted and wanted != key.project and key.role == "owner":
        row = web.store.projects.get(wanted)
        key = key if row is None or row.archived_at is not None else replace(key, project=wanted)
    return Visit(key, web.parts.settings, web.store.of(key.project), Api(web.api, key, request.client), csrf)


async def _require_token(request: Request, expected: str) -> None:
    if request.method in ("GET", "HEAD"):
        return
    sent = request.headers.get("x-csrf-token")
    if (
        sent is None
        and not request.url.path.startswith(GATEWAY)
        and request.headers.get("content-type", "").startswith(FORM)
    ):
        sent = str((await request.form()).get("csrf", ""))
    if not hmac.compare_digest((sent or "").encode(), expected.encode()):
        raise PermissionDenied(
            "This form is older than your session, or comes from elsewhere: nothing was done. Load the page again.",
            code="csrf_token_wrong",
        )
