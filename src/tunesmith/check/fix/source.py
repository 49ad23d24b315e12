"""Reads a file of rows in whatever form.

JSON Lines, an array, objects over many lines, CSV.

Memory is bounded: lines and objects are read one at a time, and none beyond `MAX_LINE_BYTES` is held.
"""

import codecs
import csv
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import orjson

from tunesmith.check.fix.repair import TOKEN
from tunesmith.errors import InvalidRequest
from tunesmith.rows.lines import BOM, MAX_LINE_BYTES, SNIFF_BYTES
from tunesmith.rows.other_shapes.pairs import PAIRS
from tunesmith.rows.other_shapes.preferences import OUTPUTS
from tunesmith.rows.raw_row import iter_lines

BLOCK_BYTES = 1024 * 1024
DELIMITERS = (",", "\t", ";")
_KNOWN_COLUMNS = frozenset(("messages", "conversations", "text", "system")).union(PAIRS, *PAIRS.values(), *OUTPUTS)
# An object around the list of rows, as some services and libraries write it.
_WRAPPED = re.compile(rb'\s*\{\s*"(?:data|rows|examples|items|train|samples|dataset)"\s*:\s*(?=\[\s*\{)')
_ARRAY = re.compile(rb"\s*\[\s*\{")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")


class Piece(NamedTuple):
    """The text of one row.

    `text` is None where it was too long to be read; `repairs` say what its form was.
    """

    line: int  # where it begins, from 1
    text: bytes | None
    size: int
    repairs: tuple[str, ...] = ()


def read_pieces(path: Path, columns: Collection[str] = ()) -> Iterator[Piece]:
    """The rows of a UTF-8 file in order, blank lines included where it is JSON Lines.

    A file that is no JSON is a table if its header has a known column or one of `columns`.
    """
    known = _KNOWN_COLUMNS.union(columns)
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    start = len(BOM) if head.startswith(BOM) else 0
    head = head[start:]
    marks = ("removed byte-order marks",) if start else ()
    if is_table(head, columns):
        yield from _table_rows(path, _delimiter(head, known))
    elif wrapped := _WRAPPED.match(head):
        yield from _objects(path, start + wrapped.end(), "read a JSON array")
    elif _is_one_array(head):
        yield from _objects(path, start, "read a JSON array")
    elif _is_spread(head):
        yield from _objects(path, start, "put rows on one line each")
    else:
        for raw in iter_lines(path):
            text = None if raw.text is None else raw.text.strip(b" \t\r")
            yield Piece(raw.line, text, raw.size, marks if raw.line == 1 else ())


def write_as_utf8(source: Path, target: Path, encoding: str) -> None:
    """Writes `source`, which is in `encoding`, as UTF-8.

    InvalidRequest for an unknown encoding, or bytes that are none of it.
    """
    try:
        with source.open("rb") as old, target.open("wb") as new:
            decoder = codecs.getincrementaldecoder(encoding)()
            while block := old.read(BLOCK_BYTES):
                new.write(decoder.decode(block).encode())
            new.write(decoder.decode(b"", final=True).encode())
    except LookupError:
        raise InvalidRequest(f"No encoding is called '{encoding}'; try cp1252 or latin-1.", param="encoding") from None
    except UnicodeError as error:
        raise InvalidRequest(f"The file is not {encoding}: {error}.", param="encoding") from None


def encoding_of(path: Path) -> str | None:
    """UTF-16 or UTF-32; None for other files.

    They are told by the byte-order mark, or by the zeros among the first characters.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) < 4 or (head[::2] == b"\x00\x00") == (head[1::2] == b"\x00\x00"):
        return None
    return "utf-16-be" if head[::2] == b"\x00\x00" else "utf-16-le"


def _first_lines(head: bytes) -> tuple[bytes, bytes]:
    filled = [line.strip() for line in head.split(b"\n") if line.strip()]
    return (filled[0] if filled else b"", filled[1] if len(filled) > 1 else b"")


def _is_one_array(head: bytes) -> bool:
    if not _ARRAY.match(head):
        return False
    first, second = _first_lines(head)
    return not (second.startswith(b"[") and first.rstrip(b",").endswith(b"]"))  # each line a list of its own


def _is_spread(head: bytes) -> bool:
    """Whether the first object goes on in the next line."""
    first, second = _first_lines(head)
    return first.startswith(b"{") and bool(second) and not second.startswith((b"{", b"[", BOM)) and not _ends(first)


def _ends(line: bytes) -> bool:
    depth = 0
    for token in TOKEN.finditer(line):
        depth += 1 if token.group(2) else -1 if token.group(3) else 0
    return depth <= 0


def _objects(path: Path, offset: int, how: str) -> Iterator[Piece]:
    """The outermost objects of a JSON text: of a list, one after another, or with commas between them."""
    with path.open("rb") as file:
        line = 1 + file.read(offset).count(b"\n")
        yield from _ObjectReader(file, line, how).pieces()


class _ObjectReader:
    """Cuts objects out of a stream. `_buffer` begins where nothing has been taken yet."""

    def __init__(self, file: BinaryIO, line: int, how: str) -> None:
        self._file = file
        self._line = line
        self._how = how
        self._buffer = b""

    def pieces(self) -> Iterator[Piece]:
        ended = False
        while not ended or self._buffer.strip(b" \t\r\n,[]"):
            if not ended:
                block = self._file.read(BLOCK_BYTES)
                ended = not block
                self._buffer += block
            yield from self._whole_objects()
            if ended or len(self._buffer) > MAX_LINE_BYTES:
                yield from self._broken(ended=ended)

    def _whole_objects(self) -> Iterator[Piece]:
        depth, start, taken = 0, 0, 0
        for token in TOKEN.finditer(self._buffer):
            if token.end() == len(self._buffer) and token.group(1):
                break  # a text that goes on in the next block
            if token.group() == b"{":
                if depth == 0:
                    start = token.start()
                depth += 1
            elif token.group() == b"}" and depth:
                depth -= 1
                if depth == 0:
                    yield from self._between(self._buffer[taken:start])
                    text = self._buffer[start : token.end()]
                    taken = token.end()
                    yield Piece(self._line, text, len(text), (self._how,))
                    self._line += text.count(b"\n")
        self._buffer = self._buffer[taken:]

    def _between(self, text: bytes) -> Iterator[Piece]:
        """What stands between objects: nothing but commas and brackets, or it is a row that cannot be read."""
        if odd := text.strip(b" \t\r\n,[]"):
            yield Piece(self._line, odd, len(odd), (self._how,))
        self._line += text.count(b"\n")

    def _broken(self, *, ended: bool) -> Iterator[Piece]:
        """Takes what does not end as one broken row, up to the next line that begins an object."""
        text = self._buffer
        start = len(text) - len(text.lstrip(b" \t\r\n,["))
        at = text.find(b"\n{", start + 1) + 1 or (text.find(b"\n  {", start + 1) + 1)
        end = at or (len(text) if ended or len(text) > MAX_LINE_BYTES else 0)
        odd = text[:end].strip(b" \t\r\n,[]")
        if odd:
            too_long = len(odd) > MAX_LINE_BYTES
            yield Piece(self._line, None if too_long else odd.replace(b"\n", b" "), len(odd), (self._how,))
        self._line += text.count(b"\n", 0, end)
        self._buffer = text[end:]


def _delimiter(head: bytes, known: Collection[str]) -> str:
    return max(DELIMITERS, key=lambda mark: len(_columns(head, mark).intersection(known)))


def is_table(head: bytes, columns: Collection[str] = ()) -> bool:
    """Whether a file that begins so is a table whose header can be read.

    It has a known column, or one of `columns`.
    """
    first, known = head.removeprefix(BOM).lstrip()[:1], _KNOWN_COLUMNS.union(columns)
    return first not in (b"{", b"[", b"") and bool(_columns(head, _delimiter(head, known)).intersection(known))


def _columns(head: bytes, delimiter: str) -> set[str]:
    line = head.lstrip().split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    try:
        names = [name.strip() for row in csv.reader([line], delimiter=delimiter) for name in row]
    except csv.Error:  # a line with a carriage return in it is no header
        return set()
    return {*names, *(name.lower() for name in names)}


def _table_rows(path: Path, delimiter: str) -> Iterator[Piece]:
    """The rows of a table with a header, each as an object of its cells."""
    csv.field_size_limit(MAX_LINE_BYTES)
    # Bytes that are no UTF-8 become lone surrogates, so that the error can name the line they stand in.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = _lists_of_cells(file, delimiter)
        names = [name.strip() for name in next(cells for _, cells in rows if any(cells))]
        lowered = [name.lower() if name.lower() in _KNOWN_COLUMNS else name for name in names]
        for line, cells in rows:
            if not any(cells):
                yield Piece(line, b"", 0)
                continue
            row = dict(zip(lowered, cells, strict=False)) if len(cells) <= len(names) else {"cells": cells}
            text = orjson.dumps(row)
            yield Piece(line, text, len(text), ("read a table",))


def _lists_of_cells(file: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Where each row begins, from 1, with its cells; InvalidRequest for a row that cannot be read."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            cause = "a quotation mark is not closed" if "unexpected end" in str(error) else str(error)
            raise InvalidRequest(f"line {line}: the table cannot be read: {cause}.", param="file") from None
        if cells is None:
            return
        if odd := _NOT_UTF8.search("".join(cells)):
            raise InvalidRequest(
                f"line {line}: byte 0x{ord(odd.group()) - 0xDC00:02x} is not UTF-8. Say what the file is written in: "
                "--encoding cp1252 is what Excel writes in Western Europe and America.",
                param="file",
                code="not_utf8",
            )
        yield line, cells
