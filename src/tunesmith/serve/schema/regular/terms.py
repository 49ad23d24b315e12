"""Regular expressions as terms, with complement and intersection.

A term is read as a whole text: `^` and `$` are where it begins and ends.
"""

from dataclasses import dataclass
from typing import TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Term:
    """An operator and its parts; `ranges` are those of the characters it stands for."""

    kind: str
    parts: "tuple[Term, ...]" = ()
    ranges: Ranges = ()


ANY: Ranges = ((0, 0xD7FF), (0xE000, 0x10FFFF))
NOTHING = Term("none")
EMPTY = Term("empty")
START = Term("start")
END = Term("end")


class Unreadable(ValueError):
    """A pattern that is not covered here, or is too large to be spelled."""


def chars(ranges: Ranges) -> Term:
    """One character of the ranges."""
    return Term("chars", ranges=ranges)


def sequence(*parts: Term) -> Term:
    """One after the other."""
    return Term("seq", parts)


def either(*parts: Term) -> Term:
    """Any one of them."""
    return Term("or", parts)


def both(*parts: Term) -> Term:
    """What all of them match."""
    return Term("and", parts)


def complement(part: Term) -> Term:
    """Every text that it does not match."""
    return Term("not", (part,))


def star(part: Term) -> Term:
    """Any number of times."""
    return Term("star", (part,))


ANYTHING: Term = star(chars(ANY))


def word(text: str) -> Term:
    """This text and no other."""
    return sequence(*(chars(((ord(char), ord(char)),)) for char in text))


def repeated(part: Term, least: int, most: int | None, limit: int = 200) -> Term:
    """From `least` to `most` times. Raises Unreadable above `limit`."""
    if max(least, most or 0) > limit:
        raise Unreadable(f"more than {limit} repetitions")
    tail = star(part) if most is None else EMPTY
    for _ in range((most or least) - least):
        tail = either(EMPTY, sequence(part, tail))
    return sequence(*[part] * least, tail)


def inverted(ranges: Ranges) -> Ranges:
    """The characters outside of the ranges."""
    found: list[tuple[int, int]] = []
    for low, high in ANY:
        for begin, end in sorted(ranges):
            if begin > low and begin <= high:
                found.append((low, begin - 1))
            low = max(low, end + 1)
        if low <= high:
            found.append((low, high))
    return tuple(found)
