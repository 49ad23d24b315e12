"""A request's body, as JSON or as it arrives."""

import re
from collections.abc import Callable, Iterator
from functools import partial

import orjson
from anyio import CapacityLimiter, from_thread
from fastapi import Request

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue, exact_json
from tunesmith.wire.faults import demand_object

TOO_LARGE = re.compile("infinity when parsed|limit .* for integer string conversion")  # orjson's words, and Python's
# A slow upload holds its thread for as long as it lasts; threads of their own keep the other routes answering.
UPLOADS_AT_ONCE = CapacityLimiter(16)


async def read_object(request: Request, model: str | None = None, *, exact: bool = False) -> JsonObject:
    """The body as a JSON object; raises InvalidRequest for anything else.

    `model`: the one that the URL names, which replaces the body's; `exact` keeps all digits of whole numbers.
    """
    body = demand_object(await _read_json(request, exact_json if exact else orjson.loads))
    return body if model is None else {**body, "model": model}


async def _read_json(request: Request, parse: Callable[[bytes], JsonValue] = orjson.loads) -> JsonValue:
    body = await request.body()
    try:
        value: JsonValue = parse(body)
    except ValueError as error:
        raise InvalidRequest(unreadable(error)) from error
    return value


def unreadable(error: BaseException) -> str:
    """Why a body could not be parsed as JSON, in one sentence and what to do."""
    if TOO_LARGE.search(str(error)):
        return "The request body has a number that is too large to be read. Send numbers of less than 300 digits."
    if isinstance(error, UnicodeDecodeError):
        return f"The request body is not UTF-8 (byte 0x{error.object[error.start]:02x} at position {error.start})."
    return f"The request body is not valid JSON ({error}). Send a JSON object in UTF-8."


def announced_bytes(request: Request) -> int:
    """The Content-Length; 0 without one."""
    digits = request.headers.get("content-length", "")
    return int(digits[:18]) if digits.isascii() and digits.isdigit() else 0


def body_chunks(request: Request) -> Iterator[bytes]:
    """The request's bytes, for a route that runs in a worker thread.

    Each chunk is fetched from the event loop; none is kept.
    """
    stream = request.stream()
    while chunk := from_thread.run(partial(anext, stream, b"")):
        yield chunk
