"""The tensors of a GGUF file by the names that transformers has for them.

Each is exactly as the file has it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.models.gguf.architectures import Architecture
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.metadata import EMBEDDINGS, OUTPUT, GgufTensor, values_of
from tunesmith.models.gguf.rotation import FACTORS, LONG, SHORT

Change: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
NORM = "output_norm"
GLOBAL = {EMBEDDINGS: "model.embed_tokens.weight", OUTPUT: "lm_head.weight"}
BLOCK_VALUES = 4 * 1024 * 1024  # read at a time of a tensor that stays as it is: 16 MiB


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight by its name in transformers, which is read when `blocks` is asked for.

    `expert`: its place in a tensor that has those of all experts. `change`: what makes of the file's what it is here.
    """

    name: str
    shape: tuple[int, ...]
    source: GgufTensor
    expert: int | None = None
    change: Change | None = None

    @property
    def values(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Its numbers in float32, some rows at a time."""
        data = self.source.data if self.expert is None else self.source.data[self.expert]
        if self.change is not None or data.ndim < 2:
            values = values_of(self.source, data)
            yield values if self.change is None else np.ascontiguousarray(self.change(values))
            return
        rows = max(1, BLOCK_VALUES * len(data) // max(1, self.values))
        for start in range(0, len(data), rows):
            yield values_of(self.source, data[start : start + rows])


def weights_of(model: GgufModel, architecture: Architecture) -> list[Weight]:
    """Each weight, not read yet.

    Raises InvalidRequest naming a tensor that is missing or that the architecture has no place for.
    """
    check_names(model, architecture)
    return [
        weight
        for tensor in model.reader.tensors
        if tensor.name not in (FACTORS, LONG, SHORT)
        for weight in _named(tensor, model, architecture)
    ]


def _named(tensor: GgufTensor, model: GgufModel, architecture: Architecture) -> Iterator[Weight]:
    shape = tuple(int(one) for one in reversed(tensor.shape))
    if tensor.name in GLOBAL:
        yield Weight(GLOBAL[tensor.name], shape, tensor)
        return
    place, part, kind = _split(tensor.name)
    change = _change(part, model, architecture)
    if part == NORM:
        yield Weight(f"model.norm.{kind}", shape, tensor, None, change)
        return
    path = f"model.layers.{place}.{architecture.parts[part]}.{kind}"
    if "{}" in path:
        yield from (Weight(path.format(index), shape[1:], tensor, index, change) for index in range(shape[0]))
    else:
        row = part == "ffn_gate_inp_shexp" and len(shape) == 1
        yield Weight(path, (1, *shape) if row else shape, tensor, None, change)


def _change(part: str, model: GgufModel, architecture: Architecture) -> Change | None:
    if architecture.adds_one and part.endswith("norm"):
        return lambda values: values - np.float32(1)
    if architecture.interleaved and part in ("attn_q", "attn_k"):
        heads = model.heads if part == "attn_q" else model.kv_heads
        return lambda values: separate(values, heads)
    return None


def _split(name: str) -> tuple[str, str, str]:
    """(number of the block, part, weight or bias) of `blk.3.attn_q.weight`; "" where it is in no block."""
    head, _, kind = name.rpartition(".")
    place, _, part = head.removeprefix("blk.").rpartition(".")
    return place, part, kind


def check_names(model: GgufModel, architecture: Architecture) -> None:
    """Raises InvalidRequest naming a tensor that is missing or unknown.

    transformers would draw by chance what is missing, and ignore what it does not know.
    """
    blocks = [f"blk.{index}." for index in range(model.layers)]
    needed = {EMBEDDINGS, f"{NORM}.weight"} | _all(blocks, architecture.parts, "weight")
    needed |= _all(blocks, [part for part in architecture.biased if part != NORM], "bias")
    needed |= {f"{NORM}.bias"} if NORM in architecture.biased else set()
    optional = {OUTPUT, FACTORS, LONG, SHORT}
    if model.architecture == "llama":  # some of this family have them, which their config says
        optional |= _all(blocks, ("attn_q", "attn_k", "attn_v", "attn_output"), "bias")
    missing, unknown = sorted(needed - model.names), sorted(model.names - needed - optional)
    if missing or unknown:
        said = f"has no tensor {missing[0]}" if missing else f"has a tensor {unknown[0]}"
        raise InvalidRequest(
            f"The GGUF file {said}, unlike the models of the architecture {model.architecture} that are read. Use the"
            " model's Hugging Face directory instead."
        )


def _all(blocks: Iterable[str], parts: Iterable[str], kind: str) -> set[str]:
    return {f"{block}{part}.{kind}" for block in blocks for part in parts}


def separate(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Separates the two rotary halves of each head, as transformers has them.

    llama.cpp interleaves them.
    """
    split = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))
