"""Signing in with an API key or a one-time link, and out."""

from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tunesmith.api.middleware.auth import sent_key
from tunesmith.errors import PermissionDenied, RequestTooLarge
from tunesmith.store.accounts.sessions import LINK_SECONDS, SESSION_SECONDS
from tunesmith.system.audit import note_change, note_refusal
from tunesmith.web.access.visit import session_cookie, signed_in, web_of
from tunesmith.web.language import language_of, text
from tunesmith.web.render import render

FORM_BYTES = 8_192


async def sign_in_page(request: Request) -> Response:
    """The form that takes a key."""
    return render(request, "sign_in.html", next=_local(request.query_params.get("next", "/")), fault="")


async def sign_in(request: Request) -> Response:
    """Takes a key and begins a session."""
    if not request.headers.get("content-length", "").isdigit() or int(request.headers["content-length"]) > FORM_BYTES:
        raise RequestTooLarge("A key is shorter than that.")
    form = await request.form()
    raw, target = str(form.get("key", "")).strip(), _local(str(form.get("next", "/")))
    store = web_of(request).store
    key = await run_in_threadpool(store.keys.verify, raw)
    if key is None:
        note_refusal("session.refused", "sign-in", who="an unknown key", where=_where(request))
        fault = text(language_of(request), "sign_in.unknown_key")
        return render(request, "sign_in.html", status=401, next=target, fault=fault)
    token = await run_in_threadpool(store.sessions.create, key.id)
    note_change("session.created", key.id, who=f"{key.id} (…{key.hint})", where=_where(request))
    return _with_session(request, token, target)


async def make_link(request: Request) -> Response:
    """A link that signs in once, for a caller with an API key.

    `tunesmith open` opens it.
    """
    store, raw = web_of(request).store, sent_key(request.headers)
    key = None if raw is None else await run_in_threadpool(store.keys.verify, raw)
    if key is None:
        return JSONResponse({"error": {"message": "This takes an API key, in an Authorization header."}}, 401)
    token = await run_in_threadpool(lambda: store.sessions.create(key.id, one_time=True))
    return JSONResponse({"path": f"/ui/link/{token}", "seconds": LINK_SECONDS})


async def follow_link(request: Request) -> Response:
    """Signs in whoever follows the link first.

    A page of another site may not, which would swap the session; a program that only looks at it does not use it up.
    """
    if request.method == "HEAD":
        return Response()
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise PermissionDenied("Another site's page led here. Open the link from the terminal, or paste its address.")
    token = await run_in_threadpool(web_of(request).store.sessions.redeem, request.path_params["token"])
    if token is None:
        fault = text(language_of(request), "sign_in.used_link")
        return render(request, "sign_in.html", status=401, next="/", fault=fault)
    note_change("session.created", "link", who="a one-time link", where=_where(request))
    return _with_session(request, token, "/")


async def sign_out(request: Request) -> Response:
    """Ends the session."""
    await signed_in(request)
    token = request.cookies[session_cookie(request)]
    await run_in_threadpool(web_of(request).store.sessions.end, token)
    response = RedirectResponse("/ui/sign-in", 303)
    response.delete_cookie(session_cookie(request), samesite="strict", httponly=True)
    return response


def _with_session(request: Request, token: str, target: str) -> Response:
    response = RedirectResponse(target, 303)
    response.set_cookie(
        session_cookie(request),
        token,
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


def _local(target: str) -> str:
    """Where to go next: a page of ours, whatever the address says."""
    parts = urlsplit(target)
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and not (parts.scheme or parts.netloc)
    return target if plain and target.isprintable() else "/"


def _where(request: Request) -> str:
    return request.client.host if request.client else "unknown"


ROUTES = [
    Route("/ui/sign-in", sign_in_page, methods=["GET"]),
    Route("/ui/sign-in", sign_in, methods=["POST"]),
    Route("/ui/links", make_link, methods=["POST"]),
    Route("/ui/link/{token}", follow_link, methods=["GET"]),
    Route("/ui/sign-out", sign_out, methods=["POST"]),
]
