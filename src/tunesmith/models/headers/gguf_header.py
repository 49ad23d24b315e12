"""The header of a GGUF file, judged against the file's size.

The gguf library believes its counts: one array that claims more than the file holds runs for minutes. Source of the
format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

MOST_KEYS, MOST_TENSORS, MOST_NAME = 4_096, 65_536, 256
MOST_ITEMS = 1_200_000  # of all arrays; the library takes some microseconds for each. Gemma 3 has 786,432
MOST_DIMENSIONS, LARGEST_DIMENSION, LARGEST_ALIGNMENT = 4, 1 << 40, 1 << 16
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value, by its type
_TEXT, _ARRAY, _UINT32 = 8, 9, 4


class BadGguf(ValueError):
    """What is wrong with the file, as the end of a sentence."""


def check_header(file: Path) -> None:
    """Raises BadGguf for a file whose header promises what it does not hold."""
    with file.open("rb") as handle:
        reader = _Reader(handle, file.stat().st_size)
        if reader.bytes(4) != b"GGUF":
            raise BadGguf("it does not begin as a GGUF file")
        version = reader.number(4)
        if version not in (2, 3):
            raise BadGguf(f"its version is {version}; 2 and 3 are read")
        tensors, keys = reader.number(8), reader.number(8)
        if tensors > MOST_TENSORS or keys > MOST_KEYS:
            raise BadGguf(f"it claims {tensors:,} tensors and {keys:,} keys")
        alignment = _check_keys(reader, keys)
        _check_tensors(reader, tensors, alignment)


class _Reader:
    """Reads on, never beyond the file."""

    def __init__(self, handle: BinaryIO, size: int) -> None:
        self._handle = handle
        self.size = size
        self.at = 0
        self.items = 0

    def bytes(self, count: int) -> bytes:
        self._step(count)
        return self._handle.read(count)

    def skip(self, count: int) -> None:
        self._step(count)
        self._handle.seek(count, 1)

    def number(self, width: int) -> int:
        return int.from_bytes(self.bytes(width), "little")

    def name(self) -> str:
        length = self.number(8)
        if length > MOST_NAME:
            raise BadGguf(f"a name in it has {length:,} bytes")
        return self.bytes(length).decode("utf-8", errors="replace")

    def _step(self, count: int) -> None:
        self.at += count
        if self.at > self.size:
            raise BadGguf(f"its header goes on to byte {self.at:,} and the file ends at byte {self.size:,}")


@dataclass(frozen=True, slots=True)
class _Place:
    start: int
    end: int
    name: str


def _check_keys(reader: _Reader, keys: int) -> int:
    """The alignment of the tensors."""
    seen: set[str] = set()
    alignment = 32
    for _ in range(keys):
        name, kind = reader.name(), reader.number(4)
        if name in seen:
            raise BadGguf(f"the key {name} is in it twice")
        seen.add(name)
        if name == "general.alignment" and kind == _UINT32:
            alignment = reader.number(4)
        else:
            _skip_value(reader, name, kind)
    if not 1 <= alignment <= LARGEST_ALIGNMENT or alignment & (alignment - 1):
        raise BadGguf(f"its alignment is {alignment:,}, which is no power of two up to {LARGEST_ALIGNMENT:,}")
    return alignment


def _skip_value(reader: _Reader, name: str, kind: int) -> None:
    if kind == _TEXT:
        reader.skip(reader.number(8))
    elif kind == _ARRAY:
        _skip_array(reader, name)
    elif kind in _SIZES:
        reader.skip(_SIZES[kind])
    else:
        raise BadGguf(f"the key {name} is of the unknown kind {kind}")


def _skip_array(reader: _Reader, name: str) -> None:
    kind, count = reader.number(4), reader.number(8)
    reader.items += count
    if reader.items > MOST_ITEMS:
        raise BadGguf(f"the list {name} claims {count:,} items; all lists may have {MOST_ITEMS:,}")
    if kind == _TEXT:
        for _ in range(count):
            reader.skip(reader.number(8))
    elif kind in _SIZES:
        reader.skip(count * _SIZES[kind])
    else:
        raise BadGguf(f"the list {name} is of the kind {kind}, which is no number or text")


def _check_tensors(reader: _Reader, tensors: int, alignment: int) -> None:
    places = [_read_place(reader) for _ in range(tensors)]
    if len({place.name for place in places}) < len(places):
        raise BadGguf("two of its tensors have the same name")
    data = -(-reader.at // alignment) * alignment
    last = _Place(0, 0, "")
    for place in sorted(places, key=lambda one: one.start):
        if place.start % alignment or place.start < last.end:
            raise BadGguf(f"its tensor {place.name} does not begin where one may, behind {last.name or 'the header'}")
        last = place
        if data + place.end > reader.size:
            raise BadGguf(
                f"its tensor {place.name} ends at byte {data + place.end:,} and the file at byte {reader.size:,}"
            )


def _read_place(reader: _Reader) -> _Place:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    name, dimensions = reader.name(), reader.number(4)
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise BadGguf(f"its tensor {name} has {dimensions:,} dimensions")
    shape = [reader.number(8) for _ in range(dimensions)]
    kind, start = reader.number(4), reader.number(8)
    if not all(1 <= size <= LARGEST_DIMENSION for size in shape):
        raise BadGguf(f"its tensor {name} has the shape {shape}")
    if kind not in {known.value for known in GGMLQuantizationType}:
        raise BadGguf(f"its tensor {name} is of the unknown kind {kind}")
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    if shape[0] % block:
        raise BadGguf(f"its tensor {name} has rows of {shape[0]:,} values, which are no blocks of {block}")
    return _Place(start, start + prod(shape) // block * size, name)
