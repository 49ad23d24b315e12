"""Web pages that may call the API from a browser (setting `allowed_origins`)."""

import structlog
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.api.http.errors import error_response
from tunesmith.errors import PermissionDenied
from tunesmith.settings import Settings
from tunesmith.wire.faults import shown

log = structlog.get_logger(__name__)

PREFLIGHT_SECONDS = 600  # how long a browser need not ask again
EXPOSED = (  # what a page's script may read of an answer; the rest is for clients outside of browsers
    "x-request-id",
    "openai-processing-ms",
    "openai-version",
    "openai-organization",
    "openai-project",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
    "x-tunesmith-adapter",
    "x-tunesmith-not-covered",
    "x-tunesmith-grader-fault",
    "content-disposition",
)


def browser_access(settings: Settings) -> list[Middleware]:
    """The middleware that lets pages of the allowed origins call.

    Others are told why they may not.

    It answers preflight requests, which carry no key, by itself. No cookies are involved: a page must have a key.
    """
    refusal = Middleware(PageRefusal, allowed=settings.allowed_origins)
    if not settings.allowed_origins:
        return [refusal]
    return [
        refusal,
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=PREFLIGHT_SECONDS,
        ),
    ]


class PageRefusal:
    """Answers what a browser asks first for a page that may not call.

    It is a 403 that names the setting.

    A browser shows its own error to the page's script; this one stands in its network tab, and in the server's log.
    """

    def __init__(self, app: ASGIApp, allowed: list[str]) -> None:
        self.app = app
        self.allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on, unless it is OPTIONS for a page of another origin."""
        if scope["type"] != "http" or scope["method"] != "OPTIONS":
            await self.app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin")
        if self.allowed and (origin is None or origin in self.allowed or "*" in self.allowed):
            await self.app(scope, receive, send)
            return
        log.info("web page refused", origin=origin, setting="allowed_origins")
        await error_response(PermissionDenied(_why(origin), code="origin_not_allowed"))(scope, receive, send)


def _why(origin: str | None) -> str:
    pages = "No web page may" if origin is None else f"Web pages of {shown(origin)} may not"
    value = "https://app.example" if origin is None else origin[:60]
    return (
        f"{pages} call this server from a browser: its setting allowed_origins does not name them. Its operator allows "
        f"them with TUNESMITH_ALLOWED_ORIGINS={value}, followed by a restart."
    )
