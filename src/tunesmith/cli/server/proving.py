"""The server's side of a challenge: see `announcement.py`."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.cli.server.announcement import CHALLENGE, PROOF, Announcement

MOST_CHALLENGE = 128  # characters


class Proving:
    """Passes requests through; answers challenges to `/healthz` in a header."""

    def __init__(self, app: ASGIApp, announcement: Announcement) -> None:
        self._app = app
        self._announcement = announcement

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the proof to the answer if one is asked for."""
        if scope["type"] != "http" or scope["path"] != "/healthz":
            await self._app(scope, receive, send)
            return
        challenge = Headers(scope=scope).get(CHALLENGE, "")

        async def proving(message: Message) -> None:
            if message["type"] == "http.response.start" and 0 < len(challenge) <= MOST_CHALLENGE:
                MutableHeaders(scope=message)[PROOF] = self._announcement.proof(challenge)
            await send(message)

        await self._app(scope, receive, proving)
