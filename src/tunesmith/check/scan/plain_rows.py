"""The fast path: chat rows whose messages have a role, a content and nothing else.

The size, role and content of all messages of a block are read in one call each, which takes a third of the time of row
by row. A row that is not of this kind, or in doubt, is left to the careful path, which explains what is wrong with it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, repeat

import numpy as np
from numpy.typing import NDArray

from tunesmith.check.scan.batch import BatchRow
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.parse import ParsedLine
from tunesmith.rows.shapes import Shape, joint_digest, shape_of, text_digest

_ESCAPED = re.compile(rb"\\.")
QUOTE, SPACE = ord('"'), ord(" ")
BLOCK_ROWS = 128  # their objects stay in the processor's cache

Candidate = tuple[int, list[JsonObject]]  # number in the block, the messages

Taken = tuple[int, Shape, list[str], list[bytes], list[int]]  # with the digest of each text


class PlainRows:
    """Takes the plain rows of one chunk; `taken` counts them by their roles."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[str, ...]] = Counter()
        self._shapes: dict[tuple[object, ...], Shape | None] = {}

    def take(
        self, lines: Sequence[bytes], values: Sequence[ParsedLine], first_line: int, marks: Sequence[int]
    ) -> list[BatchRow | None]:
        """A row for each plain line, None for each other.

        `values` are the parsed lines, `marks` their `key_marks`.

        A plain row has two keys a message and one more, if every key occurs once: a duplicate key is lost in parsing,
        but its mark is not. Where the marks are not conclusive the quotes are: each key and each text has two.
        """
        found: list[BatchRow | None] = [None] * len(lines)
        for number, shape, texts, encoded, digests in self._plain(_candidates(values)):
            size, at = len(texts), shape.answer_at
            if marks[number] == 2 * size + 1 or _exact_quotes(lines[number]) == 8 * size + 2:
                found[number] = BatchRow(
                    first_line + number,
                    shape,
                    texts,
                    encoded,
                    digests[shape.system_at] if shape.system_at >= 0 else 0,
                    joint_digest((shape.seed, *digests[:at])),
                    joint_digest((shape.seed, *digests[at:])),
                )
        self.taken.update([row.about.roles for row in found if row is not None])  # type: ignore[misc]
        return found

    def _plain(self, rows: list[Candidate]) -> Iterator[Taken]:
        """Those of the rows whose every message is plain."""
        flat: list[JsonObject] = list(chain.from_iterable([messages for _, messages in rows]))
        try:
            sizes = list(map(len, flat))
            roles = list(map(dict.get, flat, repeat("role")))
            contents = list(map(dict.get, flat, repeat("content")))
            hash(tuple(roles))
        except TypeError:  # a message that is not an object, or a role that is not a text
            half = len(rows) // 2
            if half:
                yield from self._plain(rows[:half])
                yield from self._plain(rows[half:])
            return
        odd = _odd(sizes, contents)
        texts: list[str] = contents  # type: ignore[assignment]
        if odd:
            encoded = [b"" if number in odd else text.encode() for number, text in enumerate(texts)]
        else:
            encoded = list(map(str.encode, texts))
        digests = list(map(text_digest, encoded))
        end = 0
        for number, messages in rows:
            start, end = end, end + len(messages)
            if odd and not odd.isdisjoint(range(start, end)):
                continue
            key = tuple(roles[start:end])
            shape = self._shapes[key] if key in self._shapes else self._new_shape(key)
            if shape is not None:
                yield number, shape, texts[start:end], encoded[start:end], digests[start:end]

    def _new_shape(self, roles: tuple[object, ...]) -> Shape | None:
        shape = self._shapes[roles] = shape_of(roles)
        return shape


def key_marks(data: bytes, lines: Sequence[bytes]) -> list[int]:
    """How often `":` occurs in each line: at least once for each key.

    -1 where there may be white space in between.

    For all lines at once, which is several times as fast as counting in each.
    """
    codes = np.frombuffer(data, np.uint8)
    colons = np.flatnonzero(codes == ord(":"))
    before = codes[colons - 1]
    ends = np.fromiter(accumulate([len(line) + 1 for line in lines]), np.int64, len(lines))
    found: NDArray[np.int64] = np.diff(np.searchsorted(colons[before == QUOTE], ends), prepend=0)
    spaced = colons[before <= SPACE]
    further = codes[spaced - 2]
    found[np.searchsorted(ends, spaced[(further == QUOTE) | (further <= SPACE)], side="right")] = -1
    counts: list[int] = found.tolist()
    return counts


def _exact_quotes(line: bytes) -> int:
    return _ESCAPED.sub(b"", line).count(b'"')


def _candidates(values: Sequence[ParsedLine]) -> list[Candidate]:
    """The lines that hold messages and nothing else."""
    found = []
    for number, value in enumerate(values):
        if type(value) is dict and len(value) == 1:
            messages = value.get("messages")
            if type(messages) is list and messages:
                found.append((number, messages))
    return found  # type: ignore[return-value]


def _odd(sizes: list[int], contents: list[JsonValue]) -> set[int]:
    """The numbers of the messages with further keys, or without a text that says something."""
    odd: set[int] = set()
    if sizes.count(2) != len(sizes):
        odd.update(number for number, size in enumerate(sizes) if size != 2)
    if set(map(type, contents)) != {str}:
        odd.update(number for number, content in enumerate(contents) if not isinstance(content, str))
        texts = [content if isinstance(content, str) else "-" for content in contents]
    else:
        texts = contents  # type: ignore[assignment]
    if "" in texts or any(map(str.isspace, texts)):
        odd.update(number for number, text in enumerate(texts) if not text or text.isspace())
    return odd
