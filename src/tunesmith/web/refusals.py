"""What a browser is shown when a page refuses, or cannot be made."""

from collections.abc import Awaitable, Callable, Mapping
from typing import cast
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from tunesmith.errors import TunesmithError
from tunesmith.web.access.api_call import Refused
from tunesmith.web.access.visit import SignedOut
from tunesmith.web.language import language_of, text
from tunesmith.web.render import render

SIGN_IN = "/ui/sign-in"
Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _signed_out(request: Request, _error: Exception) -> Response:
    """To the sign-in page, and from there back; a script is only told."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    target = f"{SIGN_IN}?next={quote(here)}"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"hx-redirect": SIGN_IN})
    if request.method not in ("GET", "HEAD") or request.url.path.startswith(("/ui/api/", "/ui/live/")):
        return Response("signed out", 401)
    return RedirectResponse(target, 303)


async def _refused(request: Request, error: Exception) -> Response:
    refused = cast(Refused, error)
    return _page(request, refused.status, refused.message)


async def _ours(request: Request, error: Exception) -> Response:
    ours = cast(TunesmithError, error)
    return _page(request, ours.status, ours.message)


async def _http(request: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    known = text(language_of(request), "error.not_found") if status == 404 else cast(HTTPException, error).detail
    return _page(request, status, known)


async def _too_long(request: Request, _error: Exception) -> Response:
    """A form that the guard has cut off; whoever has really left sees nothing of this."""
    return _page(request, 413, text(language_of(request), "error.too_long"))


def _page(request: Request, status: int, message: str) -> Response:
    """The sentence in a page of its own, or for a part of a page just the sentence."""
    template = "parts/problem.html" if "hx-request" in request.headers else "error.html"
    return render(request, template, status=status, code=status, message=message)


HANDLERS: Mapping[type[Exception] | int, Handler] = {
    SignedOut: _signed_out,
    Refused: _refused,
    TunesmithError: _ours,
    HTTPException: _http,
    ClientDisconnect: _too_long,
}
