"""Writes weights as a safetensors file, a part at a time.

No model is in memory as a whole. The bytes are those that safetensors' own `save_file` writes.

A file with numbers of 16 bits says how long it would be in float32. Earlier releases wrote it so, and the fingerprints
in adapters that they trained count those bytes: the weights are the same.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith.models.gguf.weights import NUMBER_BYTES, Weight

ALIGNED = 8  # the header's length is a multiple of it
FORMATS = (*NUMBER_BYTES,)  # in the order that safetensors writes them in
IN_FLOAT32 = "bytes_in_float32"
_IN_FLOAT32 = re.compile(rb'{"__metadata__":{"format":"pt","' + IN_FLOAT32.encode() + rb'":"(\d{1,18})"}')


def file_size(weights: Sequence[Weight]) -> int:
    """The bytes that `write` will write, about: without the header."""
    return sum(weight.bytes for weight in weights)


def write(path: Path, weights: Sequence[Weight]) -> None:
    """Writes the file.

    Raises ValueError for a tensor whose data are not as many as its shape says.
    """
    ordered = sorted(weights, key=lambda weight: (FORMATS.index(weight.number), weight.name))
    header = _header(ordered, lambda weight: weight.number, _metadata(weights))
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for weight in ordered:
            written = sum(file.write(block.data) for block in weight.blocks())
            if written != weight.bytes:
                raise ValueError(f"{weight.name} has {written} bytes for a shape of {list(weight.shape)}")


def bytes_in_float32(file: Path) -> int:
    """How long a file of weights would be in float32, if it says so.

    Else how long it is.
    """
    with file.open("rb") as handle:
        handle.seek(8)
        found = _IN_FLOAT32.match(handle.read(128))
    return int(found[1]) if found else file.stat().st_size


def _metadata(weights: Sequence[Weight]) -> dict[str, str]:
    if all(weight.number == "F32" for weight in weights):
        return {"format": "pt"}
    header = _header(sorted(weights, key=lambda weight: weight.name), lambda _: "F32", {"format": "pt"})
    size = 8 + len(header) + NUMBER_BYTES["F32"] * sum(weight.values for weight in weights)
    return {"format": "pt", IN_FLOAT32: str(size)}


def _header(weights: Sequence[Weight], number: Callable[[Weight], str], metadata: dict[str, str]) -> bytes:
    described: dict[str, object] = {"__metadata__": metadata}
    at = 0
    for weight in weights:
        end = at + weight.values * NUMBER_BYTES[number(weight)]
        described[weight.name] = {"dtype": number(weight), "shape": list(weight.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % ALIGNED)
