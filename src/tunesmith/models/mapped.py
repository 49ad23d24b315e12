"""The tensors of a base's weight files as arrays over them, without torch.

Processes that map the same base share its pages. Numbers of bfloat16 are uint16 arrays of their bits. The files must be
those of a checked base (`models.base_check`): here only what is read is bounded, by the header.
"""

import json
import mmap
import re
from pathlib import Path

import numpy
from numpy.typing import NDArray

from tunesmith.models.headers.safetensors_header import BadHeader, read_header

KINDS = {"F32": numpy.float32, "F16": numpy.float16, "BF16": numpy.uint16}
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_OWN_NAME = re.compile(r"model\.(layers\.\d+|norm)\.")  # of a causal model, which loading does not change


def map_tensors(directory: Path) -> dict[str, NDArray[numpy.generic]] | None:
    """The tensors by name, read when used.

    None if a file is not as expected, or has other kinds of numbers.
    """
    tensors: dict[str, NDArray[numpy.generic]] = {}
    try:
        for file in _files(directory):
            tensors |= map_file(file)
    except (OSError, BadHeader, KeyError, TypeError, ValueError):
        return None
    return tensors


def map_file(file: Path) -> dict[str, NDArray[numpy.generic]]:
    """The tensors of one file.

    Raises BadHeader, or KeyError for other kinds of numbers.
    """
    header = read_header(file)
    with file.open("rb") as handle:
        start = 8 + int.from_bytes(handle.read(8), "little")
        whole = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    data = numpy.frombuffer(whole, numpy.uint8)[start:]  # keeps the mapping alive
    tensors = {
        name: data[tensor.start : tensor.end].view(KINDS[tensor.dtype]).reshape(tensor.shape)
        for name, tensor in header.items()
    }
    if not all(tensor.flags.aligned for tensor in tensors.values()):
        raise BadHeader("its numbers are not aligned")
    return tensors


def is_wide_vector(name: str, dtype: str, dimensions: int) -> bool:
    """Whether a tensor is a norm or a bias in float32 that `map_wide_vectors` gives."""
    return dtype == "F32" and dimensions == 1 and _OWN_NAME.match(name) is not None


def map_wide_vectors(directory: Path) -> dict[str, NDArray[numpy.float32]]:
    """The norms and biases that are in float32, by their names in a causal model.

    {} if the files are of other kinds.
    """
    tensors = (map_tensors(directory) or {}).items()
    wide = ((name, tensor.view(numpy.float32)) for name, tensor in tensors if tensor.dtype == numpy.float32)
    return {name: tensor for name, tensor in wide if is_wide_vector(name, "F32", tensor.ndim)}


def _files(directory: Path) -> list[Path]:
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    index = json.loads((directory / INDEX).read_text("utf-8"))
    return [directory / name for name in sorted({Path(str(name)).name for name in index["weight_map"].values()})]
