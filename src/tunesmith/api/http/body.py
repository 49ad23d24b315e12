"""A request's body, as JSON or as it arrives.

What is wrong with a body that is not JSON is said here in sentences of our own: a parser's words ("no low surrogate in
string") help nobody who did not write the parser.
"""

import json
import re
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Final

import orjson
from anyio import CapacityLimiter, from_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue, exact_json
from tunesmith.rows.json_faults import json_fault, near
from tunesmith.wire.faults import demand_object

UPLOADS_AT_ONCE = 16  # of a project
EXPLAIN_BYTES = 1024 * 1024  # of longer bodies only the fast parser says where the fault is
TOO_DEEP: Final = "The request is nested too deeply to be read: send a flatter one."
TOO_LARGE: Final = "The request body has a number that is too large to be read. Send numbers of less than 300 digits."
WHOLE: Final = "Send the whole character, or leave it out: a text that is cut may lose half of an emoji."
PACKED = {  # the first bytes of what was compressed without a Content-Encoding header
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x78\x9c": "deflate",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
}
OF_A_FILE = re.compile(", or delete the (row|line)")  # a cure for lines of data
FORM = re.compile(rb"--[^\n]*\n[^\n]*content-disposition:|[\w.%\[\]-]+=(?!=)", re.IGNORECASE)

_upload_threads: dict[str, CapacityLimiter] = {}  # by project


def upload_threads(project: str) -> CapacityLimiter:
    """The threads of a project's uploads.

    A slow upload holds its thread for as long as it lasts; threads of their own keep the other routes answering, and
    other projects uploading.
    """
    return _upload_threads.setdefault(project, CapacityLimiter(UPLOADS_AT_ONCE))


async def read_object(request: Request, model: str | None = None, *, exact: bool = False) -> JsonObject:
    """The body as a JSON object; raises InvalidRequest for anything else.

    `model`: the one that the URL names, which replaces the body's; `exact` keeps all digits of whole numbers.
    """
    body = demand_object(parse_body(await request.body(), exact=exact))
    return body if model is None else {**body, "model": model}


def parse_body(body: bytes, *, exact: bool = False) -> JsonValue:
    """The JSON value of a body; `exact` keeps all digits of whole numbers.

    Raises InvalidRequest that says what is wrong with it and what to do.
    """
    try:
        value: JsonValue = exact_json(body) if exact else orjson.loads(body)
    except orjson.JSONDecodeError as error:
        fault = _encoding_fault(body) or _content_fault(body) or _syntax_fault(body.decode(), error)
        raise InvalidRequest(fault) from error
    return value


class JsonRoute(APIRoute):
    """A route whose body FastAPI reads, with our parser and our sentences."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[object, object, Response]]:
        """FastAPI's handler, given a request that parses JSON as the other routes do."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handler


class _JsonRequest(Request):
    async def json(self) -> JsonValue:
        return parse_body(await self.body())


def _encoding_fault(body: bytes) -> str | None:
    """What is wrong with the bytes; None for UTF-8."""
    packed = next((name for start, name in PACKED.items() if body.startswith(start)), None)
    if packed is not None:
        return f"The request body is compressed ({packed}), which this server does not read. Send it plain."
    if body.startswith(b"\xef\xbb\xbf"):
        return (
            "The request body begins with a byte-order mark (BOM). Send it without one; in Python, encode it as "
            "'utf-8' instead of 'utf-8-sig'."
        )
    marked, zeros = body.startswith((b"\xff\xfe", b"\xfe\xff")), body[:4].count(0)
    if marked or zeros in (2, 3):  # of four bytes of ASCII, as JSON begins
        wide = zeros == 3 or (marked and zeros == 2)
        return f"The request body is in UTF-{32 if wide else 16}. Send it in UTF-8."
    try:
        body.decode()
    except UnicodeDecodeError as error:
        if body[error.start] == 0xED:
            return f"The request body has half a surrogate pair, at byte {error.start}, which is not UTF-8. {WHOLE}"
        place = f"byte 0x{body[error.start]:02x} at position {error.start}"
        return f"The request body is not UTF-8 ({place}). Send it in UTF-8."
    return None


def _content_fault(body: bytes) -> str | None:
    """Why the body is something else than JSON; None for what may be JSON."""
    if not body.strip():
        return "The request body is empty. Send a JSON object."
    if FORM.match(body[:1000]):
        return "The request body is a form. Send a JSON object, with the header `Content-Type: application/json`."
    return None


def _syntax_fault(text: str, error: orjson.JSONDecodeError) -> str:
    """What is wrong with the text, where, and what to do about it."""
    if "depth limit" in error.msg:
        return TOO_DEEP
    if "infinity" in error.msg:
        return _beyond_decimals(text, error.pos)
    if "surrogate" in error.msg:
        return f"A text of the request body has half a surrogate pair, {_place(text, error.pos)}. {WHOLE}"
    begin = "The request body is not valid JSON:"
    if "unexpected end" in error.msg:
        return (
            f"{begin} it ends before its last bracket, after {len(text.encode()):,} bytes. Send all of it; a "
            "Content-Length counts bytes, not characters."
        )
    if "content after" in error.msg:
        return f"{begin} more follows its last bracket, {_place(text, error.pos)}. Send one JSON object."
    if error.pos == len(text) - len(text.lstrip()):
        return f"{begin} it begins with {near(text[:100], error.pos)}. Send a JSON object."
    fault = json_fault(text, _plain_error(text) or error)
    cure = OF_A_FILE.sub("", fault.fix)
    return f"{begin} see {_place(text, fault.position)}. {fault.message} {cure}"


def _beyond_decimals(text: str, at: int) -> str:
    """A number that no decimal holds, by an exponent or by its digits."""
    number = re.match(r"[-+.\w]+", text[at : at + 60])
    if number is None or "e" not in number[0].lower():
        return TOO_LARGE
    return (
        f"The request body has a number that is not a finite number: {number[0]}, {_place(text, at)}. Send one between "
        "-1.7e308 and 1.7e308."
    )


def _plain_error(text: str) -> json.JSONDecodeError | None:
    """The error of the standard library, whose words `json_fault` knows best."""
    if len(text) > EXPLAIN_BYTES:
        return None
    try:
        json.loads(text, parse_int=str)
    except json.JSONDecodeError as error:
        return error
    except RecursionError:
        return None
    return None


def _place(text: str, at: int) -> str:
    """`line 2, column 5 (…"a": tru…)`, as editors count."""
    start = text.rfind("\n", 0, at) + 1
    return f"line {text.count(chr(10), 0, at) + 1}, column {at - start + 1} ({near(text, at)})"


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
