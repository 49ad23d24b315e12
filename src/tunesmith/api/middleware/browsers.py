"""Web pages that may call the API from a browser (setting `allowed_origins`)."""

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from tunesmith.settings import Settings

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
    "x-tunesmith-not-covered",
    "x-tunesmith-grader-fault",
    "content-disposition",
)


def browser_access(settings: Settings) -> list[Middleware]:
    """The middleware for the allowed origins, if there are any.

    It answers preflight requests, which carry no key, by itself. No cookies are involved: a page must have a key.
    """
    if not settings.allowed_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=PREFLIGHT_SECONDS,
        )
    ]
