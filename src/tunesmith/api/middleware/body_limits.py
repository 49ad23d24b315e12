"""Limits on sizes: JSON bodies, and texts that a setting limits.

A NUL character in a URL is refused here too.

JSON bodies are read into memory whole; uploads are streamed and have a limit of their own.
"""

from collections.abc import Mapping

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.api.http.errors import error_response
from tunesmith.errors import InvalidRequest
from tunesmith.settings import Settings
from tunesmith.store.ids import suffix_slug

MAX_JSON_BYTES = 32 * 1024 * 1024  # a chat of 65,536 tokens is well below 1 MiB; the rest is room for tool schemas


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
    """Refuses a body that is too large, by its Content-Length if it has one.

    Without a Content-Length, bytes are counted as they arrive.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_JSON_BYTES) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on, with a `receive` that counts its bytes."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            await error_response(_encoded(encoding))(scope, receive, send)
            return
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            # PostgreSQL takes no NUL, and no id has one
            await error_response(InvalidRequest("The URL has a NUL character in it."))(scope, receive, send)
            return
        if scope["type"] != "http" or headers.get("content-type", "").startswith("multipart/"):
            await self.app(scope, receive, send)
            return
        if _announced(headers) > self.max_bytes:
            await error_response(InvalidRequest(self._message(), code="request_too_large"))(scope, receive, send)
            return
        await self.app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise HTTPException(400, self._message())  # the one kind that FastAPI lets through while it reads
            return message

        return counted

    def _message(self) -> str:
        return f"The request body is larger than {self.max_bytes} bytes. Send training data as a file (POST /v1/files)."


def _announced(headers: Headers) -> int:
    """The Content-Length, 0 without one; of very many digits the first are enough to be too large."""
    digits = headers.get("content-length", "")
    return int(digits[:18]) if digits.isascii() and digits.isdigit() else 0


def _encoded(encoding: str) -> InvalidRequest:
    message = (
        f"The request body is compressed (Content-Encoding: {encoding[:60]}), which this server does not read. Send it"
        " plain, without that header."
    )
    return InvalidRequest(message, code="unsupported_content_encoding")
