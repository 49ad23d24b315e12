"""The headers that OpenAI sends with every answer, and stray exceptions.

Pure ASGI: Starlette's BaseHTTPMiddleware would buffer streams and hide a client's disconnect.

Not covered: a fault after the first byte was sent. It is only logged, and the connection is closed.
"""

from time import perf_counter
from traceback import format_exc
from uuid import uuid4

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.api.http.errors import error_response
from tunesmith.errors import ServerFault, TunesmithError

log = structlog.get_logger(__name__)

READS = ("GET", "HEAD", "OPTIONS")


class OpenAIHeaders:
    """Numbers and times each request; turns a stray exception into an envelope.

    The outermost middleware.
    """

    def __init__(self, app: ASGIApp, organization: str) -> None:
        self.app = app
        self.organization = organization

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on and adds the headers to its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(scope, send, self.organization)
        try:
            await self.app(scope, receive, answer.send)
        except ClientDisconnect:
            log.info("client disconnected", path=scope["path"], request_id=answer.request_id)
        except Exception as error:
            log.error("unexpected fault", path=scope["path"], request_id=answer.request_id, exception=format_exc())
            if answer.status is not None:
                raise
            fault = error_response(error) if isinstance(error, TunesmithError) else _server_fault(scope, answer)
            await fault(scope, receive, answer.send)
        # Reads that succeed are mostly clients that poll: several lines a second for each of them.
        write = log.debug if scope["method"] in READS and answer.succeeded else log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=answer.status,
            ms=answer.elapsed_ms(),
            request_id=answer.request_id,
        )


def _server_fault(scope: Scope, answer: "_Answer") -> ASGIApp:
    """A 500 that clients do not retry after a POST: what was committed is unknown, and a second job costs hours."""
    fault = ServerFault(
        "The server had an error while processing your request. Nothing about it is your fault; the server's log "
        f"has the details under request ID {answer.request_id}."
    )
    return error_response(fault, retry=None if scope["method"] in ("GET", "HEAD", "DELETE") else False)


class _Answer:
    """One response on its way out."""

    def __init__(self, scope: Scope, send: Send, organization: str) -> None:
        self.scope = scope
        self.forward = send
        self.organization = organization
        self.request_id = f"req_{uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = self.request_id
        self.started = perf_counter()
        self.status: int | None = None

    @property
    def succeeded(self) -> bool:
        return self.status is not None and self.status < 400

    def elapsed_ms(self) -> int:
        return max(1, round((perf_counter() - self.started) * 1000))

    async def send(self, message: Message) -> None:
        """Passes a message on, with the headers added to the first one."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers["request-id"] = self.request_id  # openai 0.28.1 reads this one
            headers["openai-processing-ms"] = str(self.elapsed_ms())  # 0.28.1 crashes on anything but a number
            headers["openai-version"] = "2020-10-01"
            headers["openai-organization"] = self.organization
            if (key := self.scope.get("state", {}).get("key")) is not None:
                headers["openai-project"] = key.project
        await self.forward(message)
