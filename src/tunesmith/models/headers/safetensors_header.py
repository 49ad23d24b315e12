"""The header of a safetensors file, judged against the file's size.

That is before a library maps it.
Source of the format: https://github.com/huggingface/safetensors (8 bytes of length, JSON, the tensors' bytes).
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from tunesmith.jsonvalue import JsonObject, JsonValue

MAX_HEADER = 100 * 1024 * 1024  # bytes; safetensors' own limit
MOST_DIMENSIONS, LARGEST_DIMENSION = 8, 1 << 40
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}


class BadHeader(ValueError):
    """What is wrong with a header, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of the file by name.

    Raises BadHeader for a file that is not whole and sound.
    """
    size = file.stat().st_size
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise BadHeader("its header is longer than the file")
        header = _object(handle.read(length))
    tensors = {name: _tensor(name, value) for name, value in header.items() if name != "__metadata__"}
    if not tensors:
        raise BadHeader("it has no tensors")
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda one: (one[1].start, one[1].end)):
        if tensor.start != at:
            raise BadHeader(f"the tensor {name!r} does not begin where the one before it ends")
        at = tensor.end
    if 8 + length + at != size:
        raise BadHeader(f"its tensors end at byte {8 + length + at:,} and the file at byte {size:,}")
    return tensors


def _object(data: bytes) -> JsonObject:
    try:
        value: JsonValue = json.loads(data, object_pairs_hook=_once)
    except BadHeader:
        raise
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadHeader("its header is not a JSON object")
    return value


def _once(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise BadHeader("its header names a tensor twice")
    return named


def _tensor(name: str, value: JsonValue) -> Tensor:
    wrong = BadHeader(f"the tensor {name!r} has no dtype, shape and data_offsets that fit one another")
    if not isinstance(value, dict):
        raise wrong
    dtype, shape, offsets = value.get("dtype"), _counts(value.get("shape")), _counts(value.get("data_offsets"))
    if dtype not in _BITS or shape is None or offsets is None or len(offsets) != 2 or len(shape) > MOST_DIMENSIONS:
        raise wrong
    start, end = offsets
    if prod(shape) * _BITS[str(dtype)] != 8 * (end - start):
        raise wrong
    return Tensor(str(dtype), shape, start, end)


def _counts(value: JsonValue) -> tuple[int, ...] | None:
    """Numbers from 0 on; None for anything else."""
    if not isinstance(value, list):
        return None
    counts = tuple(one for one in value if type(one) is int and 0 <= one <= LARGEST_DIMENSION)
    return counts if len(counts) == len(value) else None
