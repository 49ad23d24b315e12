"""Refuses paths with control characters, first of all.

A route's pattern matches before a final newline (Python's `$`), so `/v1/files%0a` would reach a route that nobody who
judges roles and rate limits by the whole path has found.
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.api.http.errors import error_response
from tunesmith.errors import InvalidRequest

# ASCII's and Unicode's controls, and the line separators; half surrogates are bytes that are no UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class PlainPaths:
    """Answers 400 to a call whose path has a control character.

    To stand outside of authentication.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on if its path has none."""
        if scope["type"] == "http" and (found := _CONTROL.search(scope["path"])):
            refusal = InvalidRequest(
                f"The path of the URL has a control character in it (%{ord(found[0]):02X} at position "
                f"{found.start()}); take it out."
            )
            await error_response(refusal)(scope, receive, send)
            return
        await self.app(scope, receive, send)
