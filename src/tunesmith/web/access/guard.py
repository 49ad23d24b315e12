"""What every page is held to, before anybody is known.

A page of another site cannot act here: browsers send it no cookie (SameSite=Strict), say where a request comes from
(Sec-Fetch-Site, Origin), and cannot read the token that each form carries. A name that somebody points at this address
(DNS rebinding) is refused by its Host.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.settings import Settings

FORM_BYTES = 1024 * 1024
GATEWAY = "/ui/api/"  # its bodies are held to the API's limits
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer, browsers send `Origin: null` from our own forms
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Refuses calls from other hosts and sites, bounds forms, and adds the headers."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.hosts = {"localhost", socket.gethostname().lower(), settings.host, *map(str.lower, settings.page_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on if a page of this server, or a person, made it."""
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        answer = self.app if refusal is None else PlainTextResponse(refusal, 403)
        bounded = receive if scope["path"].startswith(GATEWAY) else _bounded(receive)
        await answer(scope, bounded, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return (
                "These pages are not shown under this host name. If it is a name of this server, add it to the setting "
                "page_hosts (TUNESMITH_PAGE_HOSTS) and restart."
            )
        if scope["method"] in ("GET", "HEAD") and not scope["path"].startswith(GATEWAY):
            return None
        site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
        if site not in ("same-origin", "none") or (origin is not None and urlsplit(origin).netloc != host):
            return "This request came from a page of another site, and was not carried out."
        return None

    def _is_ours(self, host: str) -> bool:
        """An address cannot be pointed elsewhere; a name can."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.hosts or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _bounded(receive: Receive) -> Receive:
    """A `receive` that ends a body that is longer than any form of ours."""
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        return message if read <= FORM_BYTES else {"type": "http.disconnect"}

    return bounded


def _with_headers(send: Send) -> Send:
    async def forward(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return forward
