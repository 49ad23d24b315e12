"""The API for scripts of pages: `/ui/api/v1/…` is `/v1/…`.

It is called as the key that is signed in.

Uploads and answers are streamed through. A script sends the header X-CSRF-Token with everything but GET.
"""

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tunesmith.api.middleware.auth import SIGNED_IN
from tunesmith.web.access.visit import signed_in, web_of

PREFIX = "/ui/api"
DROPPED = (b"cookie", b"authorization", b"api-key", b"x-csrf-token", b"origin")


class Gateway:
    """Passes a script's call to the API."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Swaps the cookie for the session's key."""
        request = Request(scope, receive)
        visit = await signed_in(request)
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in DROPPED]
        if visit.key.role == "owner":
            headers.append((b"openai-project", visit.key.project.encode()))
        inner = {
            **scope,
            "path": scope["path"].removeprefix(PREFIX),
            "raw_path": scope["raw_path"].removeprefix(PREFIX.encode()),
            "headers": headers,
            "state": {},
            SIGNED_IN: visit.key,
        }
        await web_of(request).api(inner, receive, send)


def gateway_route() -> Route:
    """The route of every call that a script makes."""
    return Route(PREFIX + "/v1/{path:path}", Gateway())
