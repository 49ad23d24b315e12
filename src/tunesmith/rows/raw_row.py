"""The lines of a file as raw rows: the loop that whatever reads rows one by one shares.

The check's pass (`check.scan.chunk`) has a loop of its own: it parses blocks of 128 lines at once, which takes a third
of the time of one by one.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from tunesmith.jsonvalue import JsonValue
from tunesmith.rows.findings import Fault
from tunesmith.rows.lines import MAX_LINE_BYTES, chunks, read_chunk
from tunesmith.rows.parse import BrokenLine, parse_line


class RawRow(NamedTuple):
    """One line, without its line end. `text` is None where the line was too long to be read; `size` is in bytes."""

    line: int  # from 1
    text: bytes | None
    size: int

    @property
    def is_blank(self) -> bool:
        """Whether the line holds nothing but white space."""
        return self.text is not None and not self.text.strip()

    def value(self) -> JsonValue:
        """The parsed line. Raises BrokenLine when it is too long or not JSON that all readers agree on."""
        if self.text is None:
            raise BrokenLine(too_long(self.size))
        return parse_line(self.text)


def iter_lines(path: Path, only: Collection[int] | None = None) -> Iterator[RawRow]:
    """Every line of the file in order, blank ones included; `only` are the numbers of the lines to read."""
    for chunk in chunks(path):
        if chunk.too_long:
            if only is None or chunk.first_line in only:
                yield RawRow(chunk.first_line, None, chunk.length)
            continue
        lines = read_chunk(path, chunk).split(b"\n")
        if not lines[-1]:  # what follows the last line end
            lines.pop()
        for number, text in enumerate(lines, start=chunk.first_line):
            if only is None or number in only:
                yield RawRow(number, text, len(text))


def iter_rows(path: Path, only: Collection[int] | None = None) -> Iterator[RawRow]:
    """The lines that are not blank; see `iter_lines`."""
    return (row for row in iter_lines(path, only) if not row.is_blank)


def too_long(size: int) -> Fault:
    """The fault of a line of `size` bytes that was passed over."""
    text = f"The line has {size:,} bytes; at most {MAX_LINE_BYTES:,} are read."
    return Fault("line_too_long", "", text, str(size))
