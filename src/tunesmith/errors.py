"""One exception tree, which the API turns into OpenAI's error envelope and the CLI into a line and an exit code.

A message is a sentence to the user: the value seen, the limit, the cure, and for data the file and line.
Source of the shapes: OpenAI's recorded answers, `{"error": {"message", "type", "param", "code"}}`, always all four.
"""

from typing import ClassVar

from tunesmith.jsonvalue import JsonObject


class TunesmithError(Exception):
    """The root. `status` is the HTTP status, `type` the envelope's type."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code

    def envelope(self) -> JsonObject:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(TunesmithError):
    status = 400
    type = "invalid_request_error"


class DataError(InvalidRequest):
    """Training data that cannot be used; the message names file, line and cure."""


class AuthenticationFailed(TunesmithError):
    status = 401
    type = "invalid_request_error"


class PermissionDenied(TunesmithError):
    status = 403
    type = "invalid_request_error"


class NotFound(TunesmithError):
    status = 404
    type = "invalid_request_error"


class RateLimited(TunesmithError):
    status = 429
    type = "rate_limit_error"


class ServerFault(TunesmithError):
    """Our own fault, or the machine's; raised only before anything was committed."""


class ServiceUnavailable(TunesmithError):
    status = 503
    type = "service_unavailable_error"


class TrainerError(ServerFault):
    """A training process that ended without a result."""
