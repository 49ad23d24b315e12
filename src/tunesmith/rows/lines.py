"""A training file as chunks of whole lines, and a first check that it is JSONL.

Memory is bounded whatever the file: a line longer than `MAX_LINE_BYTES` is measured and passed over, never held.
Only `\\n` ends a line; a `\\r` before it is white space to JSON.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import orjson

from tunesmith.rows.findings import Finding, finding, shorten

CHUNK_BYTES = 2 * 1024 * 1024
FIRST_CHUNK_BYTES = 64 * 1024  # read first, as it tells the kind of rows that the file holds
MAX_LINE_BYTES = 16 * 1024 * 1024  # 65,536 tokens of escaped Chinese are about 1 MB
SNIFF_BYTES = 64 * 1024
BOM = b"\xef\xbb\xbf"
MARKUP = (b"<?xml", b"<!doctype", b"<html", b"<svg")  # other lines may begin with a template's own marks, as <s>
WRITTEN_ELSEWHERE = "Write the rows as JSON Lines with the program that made them."

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines at `offset`; `too_long` marks one line that was passed over."""

    offset: int
    length: int
    first_line: int
    too_long: bool = False


def chunks(path: Path, chunk_bytes: int = CHUNK_BYTES, max_line: int = MAX_LINE_BYTES) -> Iterator[Chunk]:
    """The file cut at line ends into pieces of about `chunk_bytes`.

    The first one is smaller.
    """
    offset, line = _after_bom(path), 1
    size = min(chunk_bytes, FIRST_CHUNK_BYTES)
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(size):
            end = block.rfind(b"\n") + 1
            if end == 0 and len(block) == size:
                length = _line_length(file, offset, chunk_bytes)
                yield Chunk(offset, length, line, too_long=length > max_line)
                lines = 1
            else:
                length = end or len(block)
                yield Chunk(offset, length, line)
                lines = block.count(b"\n", 0, length)
            offset, line, size = offset + length, line + lines, chunk_bytes
            file.seek(offset)


def read_chunk(path: Path, chunk: Chunk) -> bytes:
    """The bytes of a chunk."""
    with path.open("rb") as file:
        file.seek(chunk.offset)
        return file.read(chunk.length)


def sniff(path: Path) -> list[Finding]:
    """Findings about the file as a whole.

    An error among them means that its lines cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    if not head:
        return [finding("empty_file", None, "The file is empty.")]
    refused = _compressed(head) or _encoding(head)
    if refused is not None:
        return [refused]
    found = []
    if head.startswith(BOM):
        found.append(finding("byte_order_mark", 1, "The file starts with a byte-order mark; it is skipped."))
        head = head.removeprefix(BOM)
    other = _not_jsonl(head, complete=len(head) < SNIFF_BYTES - len(BOM))
    return [other] if other is not None else found


def _after_bom(path: Path) -> int:
    with path.open("rb") as file:
        return len(BOM) if file.read(len(BOM)) == BOM else 0


def _line_length(file: BinaryIO, offset: int, step: int) -> int:
    """Bytes of the line at `offset`, its end included, read in steps and not kept."""
    file.seek(offset)
    length = 0
    while block := file.read(step):
        end = block.find(b"\n") + 1
        length += end or len(block)
        if end:
            break
    return length


def _compressed(head: bytes) -> Finding | None:
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return finding("compressed_file", None, f"The file is compressed ({name}).")
    return None


def _encoding(head: bytes) -> Finding | None:
    name = None
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        name = "UTF-32"
    elif head.startswith((b"\xff\xfe", b"\xfe\xff")) or (
        len(head) >= 4 and (head[:4:2] == b"\x00\x00") != (head[1:4:2] == b"\x00\x00")
    ):
        name = "UTF-16"
    return finding("wrong_encoding", None, f"The file is {name}, not UTF-8.") if name else None


def _not_jsonl(head: bytes, *, complete: bool) -> Finding | None:
    lines = [line.strip() for line in head.split(b"\n")]
    filled = [line for line in lines if line]
    if not filled:
        return finding("empty_file", None, "The file holds only white space.") if complete else None
    first, second = filled[0], filled[1] if len(filled) > 1 else b""
    if head.startswith(b"PAR1"):
        return _foreign("The file is a Parquet table", first, WRITTEN_ELSEWHERE)
    if first.lower().startswith(MARKUP):
        return _foreign("The file is XML or HTML", first, WRITTEN_ELSEWHERE)
    if first.startswith(b"["):
        return _foreign("The file is one JSON array", first) if _is_array(first, second) else None
    if first.startswith(b"{") and second and not second.startswith((b"{", b"[")) and not _parses(first):
        return _foreign("The file is JSON spread over many lines", first)
    if first.startswith(b"{") or second.startswith(b"{") or _parses(first):
        return None
    if b"\x00" in head:
        return _foreign("The file is binary", first, WRITTEN_ELSEWHERE)
    return _foreign("Line 1 is not a dictionary", first)


def _foreign(what: str, first: bytes, fix: str | None = None) -> Finding:
    """`fix`: where `tunesmith fix` cannot read such a file either."""
    start = shorten(first[:40].decode("utf-8", "replace"))[1:-1]
    text = f'Expected JSONL, where every line is a JSON dictionary. {what} (line starts with: "{start}").'
    found = finding("not_jsonl", 1, text, value=start)
    return found if fix is None else replace(found, fix=fix)


def _is_array(first: bytes, second: bytes) -> bool:
    """An array of rows, rather than one broken row among others, or rows that are lists of messages."""
    return first == b"[" or (first.startswith(b"[{") and not (second.startswith(b"[{") and _parses(first)))


def _parses(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
