"""What a recogniser of another tool's shape returns or raises."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tunesmith.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class Made:
    """A row of ours, and the keys of the other row that it took in.

    `dropped` is what of their insides has no place in it.
    """

    shape: str
    row: JsonObject
    used: frozenset[str]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Converted:
    """A row of ours that says what the other row said.

    `dropped` are the keys that have no place in it.
    """

    shape: str
    row: JsonObject
    dropped: tuple[str, ...]


UnclearCode: TypeAlias = Literal["unclear_shape", "unclear_columns"]


class UnclearShapeError(ValueError):
    """A row whose conversion would need a guess; `reason` says which."""

    def __init__(self, reason: str, code: UnclearCode = "unclear_shape") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
