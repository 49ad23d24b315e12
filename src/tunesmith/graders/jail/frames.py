"""What goes through the jail's wall: one request in, one answer out.

A request is its length and JSON. An answer is a byte for its kind, its length and what the kind has: a score eight
bytes, the others text. Code in the jail may write an answer of its own making: it is then the answer to its own call,
or none.
"""

import math
import os
import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias

MAX_REQUEST = 64 * 1024 * 1024  # bytes; bodies of requests are shorter
MAX_ANSWER = 16 * 1024
MAX_TEXT = 4000  # characters of an answer's text
HEAD = struct.Struct("=cI")
LENGTH = struct.Struct("=I")
DOUBLE = struct.Struct("=d")
READY = b"r"  # the byte that a process of the jail writes once all walls stand, before it reads its request

NO_JAIL = b"j"  # in its place, and the reason: a wall could not be built. No answer to a call is of this kind

SCORE, FAULT, WRONG_SOURCE = b"s", b"e", b"w"
Kind: TypeAlias = Literal["score", "fault", "wrong source"]
KINDS: dict[bytes, Kind] = {FAULT: "fault", WRONG_SOURCE: "wrong source"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to: a score, or a text that says why there is none."""

    kind: Kind
    text: str = ""
    score: float = 0.0


def write_answer(descriptor: int, kind: bytes, payload: bytes) -> None:
    """Writes an answer; to a pipe whose reader has gone, nothing."""
    data = HEAD.pack(kind, len(payload)) + payload
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BrokenPipeError:
            return


def read_request(descriptor: int) -> bytes | None:
    """The bytes of a request; None where none was sent."""
    head = _read(descriptor, LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    return _read(descriptor, min(length, MAX_REQUEST))


def packed(request: bytes) -> bytes:
    """A request as it is sent."""
    return LENGTH.pack(len(request)) + request


def missing_bytes(data: bytes) -> int:
    """How many bytes of an answer are still to come after `data`; 0 when it is whole.

    ValueError for what cannot be the beginning of one.
    """
    if len(data) < HEAD.size:
        return HEAD.size - len(data)
    kind, length = HEAD.unpack_from(data)
    if kind != SCORE and kind not in KINDS:
        raise ValueError("no such kind of answer")
    if length > MAX_ANSWER or (kind == SCORE and length != DOUBLE.size):
        raise ValueError("no such length of an answer")
    return int(HEAD.size + length - len(data))


def read_answer(data: bytes) -> Answer:
    """An answer that is whole. ValueError for a score that is no finite number."""
    kind, _ = HEAD.unpack_from(data)
    payload = data[HEAD.size :]
    if kind != SCORE:
        return Answer(KINDS[kind], printable(payload.decode("utf-8", "replace"))[:MAX_TEXT])
    (score,) = DOUBLE.unpack(payload)
    if not math.isfinite(score):
        raise ValueError("a score that is no finite number")
    return Answer("score", score=score)


def printable(text: str) -> str:
    """A text without control characters but line feeds."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


def _read(descriptor: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0:
        part = os.read(descriptor, min(length, 1 << 20))
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
