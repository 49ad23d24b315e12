"""Writes weights as a safetensors file, a part at a time.

No model is in memory as a whole. The bytes are those that safetensors' own `save_file` writes.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from tunesmith.models.gguf.weights import Weight

VALUE_BYTES = 4  # of a float32
ALIGNED = 8  # the header's length is a multiple of it


def file_size(weights: Sequence[Weight]) -> int:
    """The bytes that `write` will write, about: without the header."""
    return sum(weight.values for weight in weights) * VALUE_BYTES


def write(path: Path, weights: Sequence[Weight]) -> None:
    """Writes the file.

    Raises ValueError for a tensor whose data are not as many as its shape says.
    """
    ordered = sorted(weights, key=lambda weight: weight.name)
    header = _header(ordered)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for weight in ordered:
            written = sum(file.write(block.data) for block in weight.blocks())
            if written != weight.values * VALUE_BYTES:
                raise ValueError(f"{weight.name} has {written} bytes for a shape of {list(weight.shape)}")


def _header(weights: Sequence[Weight]) -> bytes:
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for weight in weights:
        end = at + weight.values * VALUE_BYTES
        described[weight.name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % ALIGNED)
