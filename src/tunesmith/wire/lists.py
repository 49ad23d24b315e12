"""What lists, deletions and errors look like, whatever they are of."""

from typing import Generic, Literal, NotRequired, TypeAlias, TypeVar

from typing_extensions import TypedDict

T = TypeVar("T")
Anything: TypeAlias = dict[str, object]
Numbers: TypeAlias = dict[str, float]


class ErrorBody(TypedDict):
    """What went wrong, always with all four keys."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(TypedDict):
    """OpenAI's error envelope."""

    error: ErrorBody


class Listing(TypedDict, Generic[T]):
    """One page, newest first."""

    object: Literal["list"]
    data: list[T]
    has_more: bool


class IdListing(TypedDict, Generic[T]):
    """One page with the ids of its first and last element."""

    object: Literal["list"]
    data: list[T]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Deleted(TypedDict):
    """Something was deleted.

    `object` is its kind, or `<kind>.deleted` where OpenAI says so.
    """

    id: str
    object: str
    deleted: Literal[True]


def deleted(object_id: str, kind: str) -> Deleted:
    """The answer to a deletion; OpenAI puts a kind that ends in `.deleted` first."""
    if kind.endswith(".deleted"):
        return {"object": kind, "id": object_id, "deleted": True}
    return {"id": object_id, "object": kind, "deleted": True}


class Health(TypedDict):
    """The answer of `GET /healthz`."""

    status: Literal["ok"]
    version: str
    worker: NotRequired[str]  # why none runs although one should
