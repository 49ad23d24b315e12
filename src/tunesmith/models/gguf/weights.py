"""The tensors of a GGUF file by the names that transformers has for them.

Each is exactly as the file has it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.models.gguf.architectures import Architecture
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.metadata import EMBEDDINGS, OUTPUT, GgufTensor, values_of
from tunesmith.models.gguf.rotation import FACTORS, LONG, SHORT
from tunesmith.models.gguf.sizes import check_keys, check_sizes

NORM = "output_norm"
GLOBAL = {EMBEDDINGS: "model.embed_tokens.weight", OUTPUT: "lm_head.weight"}
BLOCK_VALUES = 4 * 1024 * 1024  # read at a time: 16 MiB of float32
NUMBER_BYTES = {"F32": 4, "BF16": 2, "F16": 2}  # of the formats that are written


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight by its name in transformers, which is read when `blocks` is asked for.

    `expert`: its place in a tensor that has those of all experts. `heads`: so many have their two rotary halves
    interleaved in the file. `less_one`: the file has it with the 1 that transformers adds.
    """

    name: str
    shape: tuple[int, ...]
    source: GgufTensor
    expert: int | None = None
    heads: int | None = None
    less_one: bool = False

    @property
    def values(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def number(self) -> str:
        """The format that holds it exactly, as safetensors names it.

        The file's own of 16 bits, else F32.
        """
        kind = self.source.tensor_type.name
        return kind if kind in NUMBER_BYTES and not self.less_one else "F32"

    @property
    def bytes(self) -> int:
        """Those of its numbers."""
        return self.values * NUMBER_BYTES[self.number]

    def blocks(self) -> Iterator[NDArray[np.generic]]:
        """Its numbers, some rows at a time; those of bfloat16 as their bytes."""
        data = self.source.data if self.expert is None else self.source.data[self.expert]
        order = None if self.heads is None else separated(self.shape[0], self.heads)
        if data.ndim < 2:
            values = self._numbers(data)
            yield values if order is None else values[order]
            return
        rows = max(1, BLOCK_VALUES * len(data) // max(1, self.values))
        for start in range(0, len(data), rows):
            chosen = slice(start, start + rows)
            yield self._numbers(data[chosen] if order is None else data[order[chosen]])

    def _numbers(self, data: NDArray[np.generic]) -> NDArray[np.generic]:
        if self.number != "F32":
            return np.ascontiguousarray(data)
        values = values_of(self.source, data)
        return values - np.float32(1) if self.less_one else values


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
    less_one = architecture.adds_one and part.endswith("norm")
    if part == NORM:
        yield Weight(f"model.norm.{kind}", shape, tensor, less_one=less_one)
        return
    path = f"model.layers.{place}.{architecture.parts[part]}.{kind}"
    if "{}" in path:
        yield from (Weight(path.format(index), shape[1:], tensor, index) for index in range(shape[0]))
    else:
        row = part == "ffn_gate_inp_shexp" and len(shape) == 1
        heads = {"attn_q": model.heads, "attn_k": model.kv_heads}.get(part) if architecture.interleaved else None
        yield Weight(path, (1, *shape) if row else shape, tensor, None, heads, less_one)


def _split(name: str) -> tuple[str, str, str]:
    """(number of the block, part, weight or bias) of `blk.3.attn_q.weight`; "" where it is in no block."""
    head, _, kind = name.rpartition(".")
    place, _, part = head.removeprefix("blk.").rpartition(".")
    return place, part, kind


def check_names(model: GgufModel, architecture: Architecture) -> None:
    """Raises InvalidRequest naming a tensor that is missing or unknown.

    transformers would draw by chance what is missing, and ignore what it does not know. So for keys that fit no model
    (`sizes`), and a tensor of another size than they say.
    """
    check_keys(model)
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
    check_sizes(model, architecture.parts)


def _all(blocks: Iterable[str], parts: Iterable[str], kind: str) -> set[str]:
    return {f"{block}{part}.{kind}" for block in blocks for part in parts}


def separated(rows: int, heads: int) -> NDArray[np.int64]:
    """The order of the file's rows that separates the two rotary halves of a head.

    transformers has them so; llama.cpp interleaves them.
    """
    return np.ascontiguousarray(np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(rows))
