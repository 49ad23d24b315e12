"""Every error leaves as `{"error": {"message", "type", "param", "code"}}`: never FastAPI's 422, never a 409.

openai 0.28.1 retries a 409 on chat for ever and reads 422 as a fault of the server, so wrong input is always a 400.
"""

import json
from collections.abc import Mapping, Sequence
from traceback import format_exception
from typing import cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from tunesmith.errors import InvalidRequest, NotFound, TunesmithError
from tunesmith.settings import TrainingOptions
from tunesmith.wire.job_options import KEY
from tunesmith.wire.job_request import Hyperparameters

log = structlog.get_logger(__name__)

# First part of a path below /v1 that is OpenAI's and not here -> what to use instead.
ELSEWHERE = {
    "fine-tunes": "The 2022 fine-tunes API was shut down in January 2024; use /v1/fine_tuning/jobs.",
    "evals": "Evals are not served here: score answers with POST /v1/fine_tuning/alpha/graders/run, and compare a "
    "validation_file's loss in the job's events.",
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
WANTED = {
    "string_type": "a string",
    "string_unicode": "text: half a surrogate pair stands in it",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "int_parsing": "a whole number",
}


class MethodNotAllowed(InvalidRequest):
    status = 405


def error_response(
    error: TunesmithError, *, retry: bool | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """`retry` becomes `x-should-retry`, which openai 3.x obeys; None leaves the choice to the client."""
    extra = dict(headers or {})
    if error.status in (429, 503):
        extra.setdefault("retry-after", "1")  # seconds; 0.28.1 wants a whole number
    if retry is not None:
        extra["x-should-retry"] = "true" if retry else "false"
    return _Envelope(error.envelope(), status_code=error.status, headers=extra)


class _Envelope(JSONResponse):
    """A message repeats what the client wrote, which may hold half a surrogate pair: no reason for a 500."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def install(app: FastAPI) -> None:
    app.add_exception_handler(TunesmithError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def _ours(request: Request, error: Exception) -> JSONResponse:
    ours = cast(TunesmithError, error)
    if ours.status >= 500:
        log.error("fault", path=request.url.path, exception="".join(format_exception(ours)))
    return error_response(ours)


def _http(request: Request, error: Exception) -> JSONResponse:
    fault = cast(HTTPException, error)
    path, method = request.url.path, request.method
    if fault.status_code == 405:
        message = f"Not allowed to {method} on {path}."
        return error_response(MethodNotAllowed(message, code="method_not_supported"), headers=fault.headers)
    if fault.status_code == 404:
        return error_response(NotFound(f"Invalid URL ({method} {path}).{_pointer(path)}", code="unknown_url"))
    return error_response(InvalidRequest(str(fault.detail)))


def _pointer(path: str) -> str:
    if not path.startswith("/v1/"):
        return " The API lives under /v1: set the client's base_url (openai 0.28: api_base) to http://HOST:PORT/v1."
    instead = next((text for start, text in WITHIN.items() if path.startswith(start)), None)
    if path.startswith("/v1/engines/") and path.endswith("/embeddings"):
        instead = ELSEWHERE["embeddings"]
    instead = instead or ELSEWHERE.get(path.split("/")[2])
    return f" {instead or 'docs/api.md lists the endpoints that this server answers.'}"


def _invalid(request: Request, error: Exception) -> JSONResponse:
    return error_response(explain(cast(RequestValidationError, error).errors()[0]))


def explain(fault: ErrorDetails) -> InvalidRequest:
    """The first of pydantic's complaints, in the words of OpenAI's answers: the value, the limit, the field."""
    param = param_of(fault["loc"])
    kind, given = fault["type"], fault.get("input")
    if kind == "json_invalid":
        reason = fault.get("ctx", {}).get("error", "invalid JSON")
        return InvalidRequest(f"Could not parse the JSON body of your request: {reason} (position {fault['loc'][-1]}).")
    if param is None:
        return InvalidRequest("The body must be a JSON object, sent with the header `Content-Type: application/json`.")
    if kind == "missing":
        return missing(param)
    if kind == "extra_forbidden":
        return unknown_parameter(param)
    if kind == "as_recorded":
        return InvalidRequest(fault["msg"], param=param)
    if kind == "value_error":  # our own validators: the message is already a sentence
        return InvalidRequest(f"{fault['ctx']['error']} - '{param}'", param=param)
    return InvalidRequest(f"{shown(given)} {_verdict(fault)} - '{param}'", param=param)


def missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def unknown_parameter(param: str) -> InvalidRequest:
    return InvalidRequest(f"Unknown parameter: '{param}'.{_own(param)}", param=param, code="unknown_parameter")


def _own(param: str) -> str:
    """Where our own options belong and what they are called; OpenAI's requests do not have them."""
    inside, name = param.startswith(f"{KEY}."), param.rpartition(".")[2]
    if name in TrainingOptions.model_fields:
        return f" It is an option of this server: send it as {{'{KEY}': {{'{name}': …}}}} (extra_body of the client)."
    if inside and name in Hyperparameters.model_fields:
        return " It is one of OpenAI's: send it under 'hyperparameters'."
    return f" '{KEY}' may have: {', '.join(TrainingOptions.model_fields)}." if inside else ""


def param_of(location: Sequence[int | str]) -> str | None:
    """('body', 'messages', 2, 'role') -> 'messages[2].role'."""
    name = ""
    for part in location[1:]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or None


def shown(value: object, limit: int = 60) -> str:
    """A value as a user wrote it, cut to a length that fits a line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _verdict(fault: ErrorDetails) -> str:
    """`is not a string`, `is less than the minimum of 0`: after the value, before the field's name."""
    kind, limits = fault["type"], fault.get("ctx", {})
    if kind in WANTED:
        return f"is not {WANTED[kind]}"
    if kind == "literal_error":
        return f"is not one of [{limits['expected'].replace(' or ', ', ')}]"
    if kind == "greater_than_equal":
        return f"is less than the minimum of {limits['ge']}"
    if kind == "less_than_equal":
        return f"is greater than the maximum of {limits['le']}"
    return f"is not valid: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
