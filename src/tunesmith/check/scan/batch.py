"""The texts of a chunk's sound rows in columns, searched and counted at once.

A system message that many rows share is counted and searched once: `searched` are the texts that differ, `copies`
their other places. Analysers (`analysers`) get this object; `place` turns the number of a text back into line and
path.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import NamedTuple

from tunesmith.rows.row_texts import RowTexts
from tunesmith.rows.shapes import Shape

GAP = b"\xff"  # in no UTF-8 text
_DULL = bytes(range(0x20, 0x7F)) + b"\t\n\r" + GAP


class BatchRow(NamedTuple):
    """A sound row.

    `system`, `prompt` and `answer` are 64-bit digests, the same in every process and run.

    `system` is that of the first system message (0: none), whose text is number `about.system_at` of the row.
    """

    line: int
    about: Shape | RowTexts
    texts: Sequence[str]
    encoded: Sequence[bytes]
    system: int
    prompt: int
    answer: int


class Batch:
    """The sound rows of a chunk.

    One entry per row in `rows`; one per text in `texts` and `encoded` (its UTF-8). A row's texts lie together.
    """

    def __init__(self, rows: Sequence[BatchRow]) -> None:
        self.rows = rows
        self.texts: list[str] = list(chain.from_iterable([row.texts for row in rows]))
        self._offsets: list[int] = []

    @cached_property
    def encoded(self) -> list[bytes]:
        """The UTF-8 of each text."""
        return list(chain.from_iterable([row.encoded for row in self.rows]))

    @cached_property
    def starts(self) -> list[int]:
        """The number of each row's first text."""
        return list(accumulate([len(row.texts) for row in self.rows], initial=0))[:-1]

    @cached_property
    def copies(self) -> dict[int, list[int]]:
        """The copies of each system message in later rows of the chunk, by text number."""
        first: dict[int, int] = {}
        found: dict[int, list[int]] = {}
        for (_, about, _, _, system, _, _), start in zip(self.rows, self.starts, strict=True):
            if system:
                number = start + about.system_at
                earlier = first.setdefault(system, number)
                # Equal digests of unequal texts can be made on purpose.
                if earlier != number and self.texts[earlier] == self.texts[number]:
                    found.setdefault(earlier, []).append(number)
        return found

    @cached_property
    def searched(self) -> Sequence[int]:
        """The numbers of all texts but the copies."""
        again = set(chain.from_iterable(self.copies.values()))
        return [number for number in range(len(self.texts)) if number not in again] if again else range(len(self.texts))

    def everywhere(self, number: int) -> list[int]:
        """The text number `searched[number]` and its copies."""
        first = self.searched[number]
        return [first, *self.copies.get(first, ())]

    @cached_property
    def blob(self) -> bytes:
        """The `searched` texts in one, `GAP` between them, for quick searches."""
        encoded = self.encoded
        return GAP.join([encoded[number] for number in self.searched] if self.copies else encoded)

    @cached_property
    def odd(self) -> bytes:
        """The `blob` without printable ASCII and line ends.

        Control characters, and whole characters beyond ASCII.
        """
        return self.blob.translate(None, _DULL)

    @cached_property
    def joined(self) -> str:
        """The `searched` texts as one, for searches that cost per call.

        They are joined by line ends; `text_at` leads back.
        """
        return "\n".join([self.texts[number] for number in self.searched])

    def text_at(self, position: int) -> tuple[int, int]:
        """(number among `searched`, position in that text) of a position in `joined`."""
        if not self._offsets:
            sizes = (len(self.texts[number]) + 1 for number in self.searched)
            self._offsets = list(accumulate(sizes, initial=0))
        number = bisect_right(self._offsets, position) - 1
        return number, position - self._offsets[number]

    def place(self, text: int) -> tuple[int, str]:
        """(line, path) of text number `text`."""
        number = bisect_right(self.starts, text) - 1
        row, at = self.rows[number], text - self.starts[number]
        return row.line, row.about.paths[at] if isinstance(row.about, RowTexts) else f"messages[{at}].content"
