"""One exception tree.

The API turns these into OpenAI's error envelope, the CLI into a line and an exit code. A message is a sentence for the
user: the value seen, the limit, what to do about it, and for data the file and line.

Source of the shapes: OpenAI's recorded answers, `{"error": {"message", "type", "param", "code"}}`, always all four.
"""

from typing import ClassVar

from tunesmith.jsonvalue import JsonObject


class TunesmithError(Exception):
    """The root. `status` is the HTTP status, `type` the type in the envelope.

    `detail`: what only this machine's owner may read, such as a host's name; for logs and commands. `retry_after`: when
    to ask again, seconds.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        detail: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message if detail is None else f"{message} ({detail})")
        self.message = message
        self.detail = detail
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def envelope(self, message: str | None = None) -> JsonObject:
        """The error as OpenAI's API sends it, with `message` in place of its own."""
        return {
            "error": {"message": message or self.message, "type": self.type, "param": self.param, "code": self.code}
        }


class InvalidRequest(TunesmithError):
    """The request, a setting or an argument is wrong."""

    status = 400
    type = "invalid_request_error"


class RequestTooLarge(InvalidRequest):
    """A body that is longer, or of more parts, than is read."""

    status = 413


class RequestTimedOut(InvalidRequest):
    """A client that stopped sending in the middle of its request."""

    status = 408


class DataError(InvalidRequest):
    """Training data that cannot be used; the message says where and what to do."""


class AuthenticationFailed(TunesmithError):
    """No API key, or one that is not accepted."""

    status = 401
    type = "invalid_request_error"


class PermissionDenied(TunesmithError):
    """The key is accepted but may not do this."""

    status = 403
    type = "invalid_request_error"


class NotFound(TunesmithError):
    """There is no such object, or none that the key may see."""

    status = 404
    type = "invalid_request_error"


class RateLimited(TunesmithError):
    """Too many requests or tokens; trying again later helps."""

    status = 429
    type = "rate_limit_error"


class ServerFault(TunesmithError):
    """Our own fault, or the machine's; raised only before anything was committed."""


class WeightsMissing(ServerFault):
    """The files of a tuned model are not here.

    Clients repeat a request that was answered with a 500, and this one cannot be answered before somebody has put the
    files back.
    """

    status = 400
    type = "invalid_request_error"


class ServiceUnavailable(TunesmithError):
    """Something that is needed does not answer; trying again later helps."""

    status = 503
    type = "service_unavailable_error"


class DiskFull(ServiceUnavailable):
    """The disk has no room for it; sending it again at once does not help."""

    status = 507


class TrainerError(ServerFault):
    """A training process that ended without a result."""
