"""The tensors of a GGUF file by the names that transformers has for them.

Each is exactly as the file has it.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.models.gguf.architectures import Architecture
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.metadata import EMBEDDINGS, OUTPUT, values_of
from tunesmith.models.gguf.rotation import FACTORS, LONG, SHORT

Named = tuple[str, NDArray[np.float32]]
NORM = "output_norm"
GLOBAL = {EMBEDDINGS: "model.embed_tokens.weight", OUTPUT: "lm_head.weight"}


def tensors(model: GgufModel, architecture: Architecture) -> Iterator[Named]:
    """Each weight in float32.

    Raises InvalidRequest naming a tensor that is missing or that the architecture has no place for.
    """
    check_names(model, architecture)
    for tensor in model.reader.tensors:
        if tensor.name not in (FACTORS, LONG, SHORT):
            yield from _converted(tensor.name, values_of(tensor), model, architecture)


def _converted(name: str, values: NDArray[np.float32], model: GgufModel, architecture: Architecture) -> Iterator[Named]:
    if name in GLOBAL:
        yield GLOBAL[name], values
        return
    place, part, kind = _split(name)
    if architecture.adds_one and part.endswith("norm"):
        values = values - np.float32(1)
    if architecture.interleaved and part in ("attn_q", "attn_k"):
        values = separate(values, model.heads if part == "attn_q" else model.kv_heads)
    if part == NORM:
        yield f"model.norm.{kind}", values
        return
    path = f"model.layers.{place}.{architecture.parts[part]}.{kind}"
    if "{}" in path:
        yield from ((path.format(index), np.ascontiguousarray(one)) for index, one in enumerate(values))
    else:
        yield path, values[None] if part == "ffn_gate_inp_shexp" and values.ndim == 1 else values


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
