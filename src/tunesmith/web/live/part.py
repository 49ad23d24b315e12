"""A part of a page that its script asks for again and again.

The answer has no body while nothing was written.
"""

import secrets
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from tunesmith.web.access.visit import signed_in

HEADER = "x-version"
_process = secrets.token_hex(8)  # another process counts from another number


async def changed_part(request: Request, make: Callable[[Request], Awaitable[Response]]) -> Response:
    """What `make` answers, or 204 where nothing was written since the script asked."""
    counted = (await signed_in(request)).store.progress.version()
    version = None if counted is None else f"{_process}-{counted}"
    if version is not None and request.headers.get(HEADER) == version:
        return Response(status_code=204)
    answer = await make(request)
    if version is not None:
        answer.headers[HEADER] = version
    return answer
