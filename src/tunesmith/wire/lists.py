"""What lists, deletions and errors look like, whatever they are of."""

from typing import Generic, Literal, TypeAlias, TypeVar

from typing_extensions import TypedDict

T = TypeVar("T")
Anything: TypeAlias = dict[str, object]
Numbers: TypeAlias = dict[str, float]


class ErrorBody(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(TypedDict):
    error: ErrorBody


class Listing(TypedDict, Generic[T]):
    object: Literal["list"]
    data: list[T]
    has_more: bool


class IdListing(TypedDict, Generic[T]):
    object: Literal["list"]
    data: list[T]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Deleted(TypedDict):
    """`object` is the kind of what was deleted, or `<kind>.deleted` where OpenAI says so."""

    id: str
    object: str
    deleted: Literal[True]


class Health(TypedDict):
    status: Literal["ok"]
    version: str
