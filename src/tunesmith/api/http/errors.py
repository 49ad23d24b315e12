"""Errors as OpenAI's envelope: never FastAPI's 422, never a 409.

openai 0.28.1 retries a 409 on chat forever and takes a 422 for a fault of the server, so wrong input is always a 400.
"""

import errno
import json
import re
from collections.abc import Mapping
from pathlib import Path
from traceback import format_exception
from typing import cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.routing import Match

from tunesmith.api.http.audit import note_refusal
from tunesmith.api.http.body import TOO_DEEP
from tunesmith.errors import (
    DiskFull,
    InvalidRequest,
    NotFound,
    ServiceUnavailable,
    TunesmithError,
    WeightsMissing,
)
from tunesmith.settings import Settings
from tunesmith.wire.faults import explain, fine_tuning_wording
from tunesmith.wire.jobs import hint_about_unknown

log = structlog.get_logger(__name__)

# First part of a path below /v1 that is OpenAI's and not here -> what to use instead.
ELSEWHERE = {
    "fine-tunes": "The 2022 fine-tunes API was shut down in January 2024; use /v1/fine_tuning/jobs.",
    "batches": "Batches are not served here: send the requests to /v1/chat/completions, several at a time; they share "
    "the model's steps.",
    "embeddings": "The models here write text and make no embeddings; ask a server that has an embedding model.",
    "responses": "The Responses API is not served here: use /v1/chat/completions.",
    "assistants": "Assistants are not served here: use /v1/chat/completions, with `tools` and your own loop.",
    "threads": "Threads are not served here: send the whole conversation to /v1/chat/completions.",
    "vector_stores": "Vector stores are not served here: put what was found into the messages of /v1/chat/completions.",
    "images": "The models here write text only.",
    "audio": "The models here read and write text only.",
    "videos": "The models here write text only.",
    "realtime": "The models here read and write text only: use /v1/chat/completions with `stream`.",
    "edits": "Edits ended in January 2024; use /v1/chat/completions.",
}
WITHIN = {
    "/v1/fine_tuning/model_limits": "The limits here are settings, `limit_…`: see docs/settings.md.",
    "/v1/organization/costs": "What usage would cost at OpenAI is shown by `tunesmith usage`.",
    "/v1/organization/usage": "Of the usage there is /v1/organization/usage/completions, and `tunesmith usage`.",
}
OF_A_MODEL = (
    "Below /v1/engines/MODEL, and Azure's /openai/deployments/MODEL, there are chat/completions and completions. For "
    "the rest use OpenAI(base_url='http://HOST:PORT/v1', api_key=…) instead of AzureOpenAI(…)."
)

NO_OBJECT = ("missing", "dict_type", "model_type", "model_attributes_type")


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not with this method."""

    status = 405


def error_response(
    error: TunesmithError,
    *,
    retry: bool | None = None,
    headers: Mapping[str, str] | None = None,
    message: str | None = None,
) -> JSONResponse:
    """The envelope as a response, with `message` in place of the error's own.

    `retry` becomes `x-should-retry`, which openai 3.x obeys; None leaves the choice to the client.
    """
    extra = dict(headers or {})
    if error.status in (429, 503):
        extra.setdefault("retry-after", str(error.retry_after or 1))  # seconds; 0.28.1 wants a whole number
    if retry is not None:
        extra["x-should-retry"] = "true" if retry else "false"
    return _Envelope(error.envelope(message), status_code=error.status, headers=extra)


class _Envelope(JSONResponse):
    """Copes with half a surrogate pair, which a message may repeat from a request."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def install(app: FastAPI) -> None:
    """Registers the handlers that turn exceptions into envelopes."""
    app.add_exception_handler(TunesmithError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RecursionError, _too_deep)
    app.add_exception_handler(OSError, _disk)


def _ours(request: Request, error: Exception) -> JSONResponse:
    ours = cast(TunesmithError, error)
    if isinstance(ours, DiskFull):  # a caller can repeat it at will: no traceback
        log.error("no room on the disk", path=request.url.path, reason=ours.message)
    elif ours.status >= 500 or isinstance(ours, WeightsMissing):  # only the log says where the files should be
        log.error("fault", path=request.url.path, exception="".join(format_exception(ours)))
    note_refusal(request.scope, ours)
    retry = False if ours.status == DiskFull.status else None
    return error_response(ours, retry=retry, message=without_places(request, ours.message))


def without_places(request: Request, message: str) -> str:
    """The message without paths and addresses, unless an owner asks."""
    key, parts = (
        getattr(request.state, "key", None),
        getattr(getattr(request.scope.get("app"), "state", None), "parts", None),
    )
    if parts is None or (key is not None and key.role == "owner"):
        return message
    known = _places(parts.settings)
    for place in sorted(known, key=len, reverse=True):
        message = message.replace(place, known[place])
    return message


def _places(settings: Settings) -> dict[str, str]:
    """Directories and addresses that the settings name, and what callers read in place of them."""
    paths = {settings.paths.root: "DATA_DIR", settings.cache_dir: "CACHE_DIR", Path.home(): "~"}
    paths |= {Path(value): f"(the base {name})" for name, value in settings.bases.items() if value.startswith("/")}
    known = {str(one): shown for path, shown in paths.items() for one in (path, path.resolve())}
    known |= {url: f"(of {name})" for name, urls in settings.serve_remote.items() for url in urls}
    if settings.moderation_url is not None:
        known[settings.moderation_url] = "(moderation_url)"
    return {place: shown for place, shown in known.items() if place not in ("/", ".")}


def _disk(request: Request, error: Exception) -> JSONResponse:
    """A full disk or one that is only read; any other failure of the system is a fault of ours."""
    number = cast(OSError, error).errno
    if number in (errno.ENOSPC, errno.EDQUOT):
        full = "The server's disk is full. Nothing was stored; try again when its operator has made room."
        return _ours(request, DiskFull(full, code="disk_full"))
    if number == errno.EROFS:
        text = "The server's disk can only be read at present. Nothing was stored; try again later."
        return _ours(request, ServiceUnavailable(text, code="disk_read_only"))
    raise error


def _too_deep(request: Request, error: Exception) -> JSONResponse:
    """Only what a client sent is read by recursion, some hundred levels deep; the log tells if that ever changes."""
    log.warning("nested too deeply", path=request.url.path, exception="".join(format_exception(error, limit=-5)))
    return error_response(InvalidRequest(TOO_DEEP))


def _http(request: Request, error: Exception) -> JSONResponse:
    fault = cast(HTTPException, error)
    path, method = request.url.path, request.method
    if fault.status_code == 405:
        message = f"Not allowed to {method} on {path}."
        return error_response(MethodNotAllowed(message, code="method_not_supported"), headers=fault.headers)
    if fault.status_code == 404:
        pointer = _without_slashes(request) or _pointer(path)
        return error_response(NotFound(f"Invalid URL ({method} {path}).{pointer}", code="unknown_url"))
    if isinstance(fault.__cause__, RecursionError):
        return _too_deep(request, fault.__cause__)
    if isinstance(fault.__cause__, TunesmithError):  # FastAPI wraps what `JsonRoute` says about a body
        return _ours(request, fault.__cause__)
    return error_response(InvalidRequest(str(fault.detail)))


def _without_slashes(request: Request) -> str:
    """What to do about a slash too many, if there is such a path without it."""
    plain = re.sub("/+", "/", request.url.path).rstrip("/")
    scope = {**request.scope, "path": plain}
    there = plain != request.url.path and any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    return f" Leave the slash out that is too many: {plain}." if there else ""


def _pointer(path: str) -> str:
    if not path.startswith("/v1/"):
        return " The API lives under /v1: set the client's base_url (openai 0.28: api_base) to http://HOST:PORT/v1."
    instead = next((text for start, text in WITHIN.items() if path.startswith(start)), None)
    first = path.split("/")[2]
    if first == "engines":  # a model's name may have slashes
        instead = next((text for noun, text in ELSEWHERE.items() if f"/{noun}" in path), OF_A_MODEL)
    instead = instead or ELSEWHERE.get(first)
    return f" {instead or 'docs/api.md lists the endpoints that this server answers.'}"


def _invalid(request: Request, error: Exception) -> JSONResponse:
    return error_response(_explained(cast(RequestValidationError, error).errors()[0]))


def _explained(fault: ErrorDetails) -> InvalidRequest:
    """The first of FastAPI's errors about a body or a query, whose locations begin with 'body' or 'query'."""
    _, *location = fault["loc"]
    if not location and fault["type"] in NO_OBJECT:
        return InvalidRequest("The body must be a JSON object, sent with the header `Content-Type: application/json`.")
    inside = cast(ErrorDetails, {**fault, "loc": tuple(location)})
    return explain(inside, fine_tuning_wording, hint=hint_about_unknown)
