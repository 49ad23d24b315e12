"""Limits on sizes: bodies, and texts that a setting limits.

A NUL character in a URL is refused here too.

Bodies are read into memory whole before any route runs; uploads are streamed and have a limit of their own.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.api.http.errors import error_response
from tunesmith.api.http.rules import Rule
from tunesmith.api.middleware.body_parts import check_parts
from tunesmith.errors import InvalidRequest, RequestTimedOut, RequestTooLarge
from tunesmith.settings import Settings
from tunesmith.store.ids import suffix_slug

MAX_DIGITS = 15
LEAST_RATE = 1024  # bytes a second, once `body_timeout` has passed: a byte now and then is no silence
BEGUN_BYTES = 64 * 1024  # of an upload that are here before a thread is spent on it
WRITES = ("POST", "PUT", "PATCH")


def check_suffix(suffix: str | None, settings: Settings) -> None:
    """Raises InvalidRequest for a suffix that cannot be part of a model's name.

    That is one that is empty, longer than the setting `max_suffix_chars`, or without a letter or digit.
    """
    longest = settings.max_suffix_chars
    if suffix is not None and not 1 <= len(suffix) <= longest:
        sentence = f"the suffix has {len(suffix)} characters; it must have 1 to {longest}"
        raise InvalidRequest(f"{sentence} - 'suffix'", param="suffix")
    if suffix is not None and not suffix_slug(suffix):
        sentence = f"{suffix!r} has no letter and no digit, so no model name can be made of it"
        raise InvalidRequest(f"{sentence} - 'suffix'", param="suffix")


def check_metadata(metadata: Mapping[str, str] | None, settings: Settings) -> None:
    """Raises InvalidRequest for more pairs than the setting `max_metadata_pairs`."""
    most = settings.max_metadata_pairs
    if metadata and len(metadata) > most:
        raise InvalidRequest(f"{len(metadata)} pairs are given; at most {most} are kept - 'metadata'", param="metadata")


class BodyLimit:
    """Reads the body of a request that is no upload, within limits.

    Of bytes, parts, silence and slowness, whatever its content type says.
    An upload's body is passed on as it arrives, once it has begun, and may be silent for as long.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on, with a `receive` that has its body, or that waits only so long for more of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        rule: Rule | None = scope.get("state", {}).get("rule")
        timed = self._timed(receive)
        try:
            _require_plain(scope)
            if b"%00" in scope["query_string"]:  # PostgreSQL takes no NUL, and no id has one
                raise InvalidRequest("The URL has a NUL character in it.")
            if rule is not None and rule.limit == "uploads":
                receive = await _begun(timed)
            elif (announced := _announced(scope)) is not None:
                receive = _again(await self._body(announced, timed), receive)
        except ClientDisconnect:
            return
        except InvalidRequest as error:
            headers = {"connection": "close"} if isinstance(error, RequestTimedOut) else None
            await error_response(error, headers=headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _body(self, announced: int, receive: Receive) -> bytes:
        """The whole body. Raises RequestTooLarge, RequestTimedOut and ClientDisconnect."""
        chunks: list[bytes] = []
        read, more = 0, True
        while more:
            if max(announced, read) > self.max_bytes:
                raise RequestTooLarge(self._too_long(), code="request_too_large")
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            more, read = message.get("more_body", False), read + len(chunks[-1])
        if read > self.max_bytes:
            raise RequestTooLarge(self._too_long(), code="request_too_large")
        body = b"".join(chunks)
        check_parts(body)
        return body

    def _timed(self, receive: Receive) -> Receive:
        left = self.timeout  # seconds of waiting; what comes gives more of them

        async def timed() -> Message:
            nonlocal left
            started = time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, min(self.timeout, left)))
                left += len(message.get("body", b"")) / LEAST_RATE - (time.monotonic() - started)
                return message
            except TimeoutError as silence:
                raise RequestTimedOut(
                    f"The request's body stopped for {self.timeout:g} s (setting body_timeout), or came with less than "
                    f"{LEAST_RATE} bytes a second; send it again.",
                    code="request_timeout",
                ) from silence

        return timed

    def _too_long(self) -> str:
        return (
            f"The request body is larger than {self.max_bytes:,} bytes, the limit here (setting max_body_bytes). Send "
            "training data as a file (POST /v1/files)."
        )


def _announced(scope: Scope) -> int | None:
    """The body's bytes by its header, 0 where they are not known; None where there is no body."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit():
        return int(length[:MAX_DIGITS]) or None  # of very many digits the first are enough to be too large
    return 0 if "transfer-encoding" in headers or scope["method"] in WRITES else None


def _require_plain(scope: Scope) -> None:
    encoding = Headers(scope=scope).get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidRequest(
            f"The request body is compressed (Content-Encoding: {encoding[:60]}), which this server does not read. "
            "Send it plain, without that header.",
            code="unsupported_content_encoding",
        )


async def _begun(receive: Receive) -> Receive:
    """A `receive` of which something has come: whoever sends a head only takes no thread from others."""
    first: deque[Message] = deque()
    read, more = 0, True
    while more and read < BEGUN_BYTES:
        first.append(await receive())
        read, more = read + len(first[-1].get("body", b"")), first[-1].get("more_body", False)

    async def begun() -> Message:
        return first.popleft() if first else await receive()

    return begun


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body first."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
