"""Whether the keys and the tensors of a GGUF file fit each other.

Keys are believed by all that comes later: by the conversion, which would make a list of as many layers as they promise,
and by transformers, which would refuse the converted base when it is loaded, long after it was added.
Source of the sizes: llama.cpp's `llama-model.cpp`.

What is not covered: the values of the tensors.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from tunesmith.errors import InvalidRequest
from tunesmith.models.base_rules import MOST_CONTEXT
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.metadata import EMBEDDINGS, OUTPUT, GgufTensor
from tunesmith.models.gguf.rotation import FACTORS, LONG, SHORT

Shape: TypeAlias = tuple[int, ...]
NORMS = ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm", "output_norm")
ROW = "ffn_gate_inp_shexp"  # a matrix of one row, or a vector
PARTLY = "phi3"  # of which a part of a head may be rotated


def check_keys(model: GgufModel) -> None:
    """Raises InvalidRequest for sizes that no model has."""
    for what, right in _rules(model):
        if not right:
            raise InvalidRequest(
                f"The GGUF file's keys fit no model that is read: {what}. Use the model's Hugging Face directory"
                " instead."
            )


def _rules(model: GgufModel) -> Iterator[tuple[str, bool]]:
    """What is said where a rule does not hold."""
    tensors, layers, context = len(model.reader.tensors), model.layers, model.context
    yield f"block_count is {layers:,}, and it has {tensors:,} tensors", 1 <= layers <= tensors
    yield f"embedding_length is {model.hidden}", model.hidden >= 1
    heads, kv_heads = model.heads, model.kv_heads
    yield f"attention.head_count is {heads}, and head_count_kv {kv_heads}", heads >= kv_heads >= 1
    yield f"attention.head_count is {heads}, no multiple of head_count_kv {kv_heads}", heads % kv_heads == 0
    head = model.head_size
    yield f"a head has {head} values", head >= 2 and head % 2 == 0
    rotated = model.integer("rope.dimension_count", head)
    yield f"of the {head} values of a head {rotated} are rotated", rotated == head or model.architecture == PARTLY
    yield f"context_length is {context:,}, and at most {MOST_CONTEXT:,} are read", 1 <= context <= MOST_CONTEXT
    yield "rope.freq_base is not above 0", model.number("rope.freq_base", 1.0) > 0
    yield "rope.scaling.factor is not above 0", model.number("rope.scaling.factor", 1.0) > 0
    yield (
        "an epsilon is below 0",
        all(model.number(f"attention.layer_norm{kind}_epsilon", 0.0) >= 0 for kind in ("", "_rms")),
    )


def check_sizes(model: GgufModel, parts: Mapping[str, str]) -> None:
    """Raises InvalidRequest naming a tensor of another shape than the keys say.

    `parts`: those of a block, as the architecture has them. All tensors must be known (`weights.check_names`).
    """
    sizes = _sizes(model, parts)
    for tensor in model.reader.tensors:
        if tensor.name in (FACTORS, LONG, SHORT):
            continue
        head, _, kind = tensor.name.rpartition(".")
        part, shape = head.rpartition(".")[2], _shape(tensor)
        expected = sizes[part][:1] if kind == "bias" else sizes[part]
        if shape != expected and not (part == ROW and shape == (1, *expected)):
            raise InvalidRequest(
                f"The GGUF file's tensor {tensor.name} has the shape {[*shape]}, and its keys say {[*expected]}: it is"
                " damaged, or a variant that is not read. Use the model's Hugging Face directory instead."
            )


def _shape(tensor: GgufTensor) -> Shape:
    return tuple(int(one) for one in reversed(tensor.shape))


def _sizes(model: GgufModel, parts: Mapping[str, str]) -> dict[str, Shape]:
    """The shape of each part's weight."""
    hidden, head = model.hidden, model.head_size
    queries, keys = model.heads * head, model.kv_heads * head
    sizes: dict[str, Shape] = dict.fromkeys(NORMS, (hidden,))
    sizes |= dict.fromkeys(
        (EMBEDDINGS.removesuffix(".weight"), OUTPUT.removesuffix(".weight")), (model.vocabulary, hidden)
    )
    sizes |= {"attn_q": (queries, hidden), "attn_k": (keys, hidden), "attn_v": (keys, hidden)}
    sizes |= {"attn_qkv": (queries + 2 * keys, hidden), "attn_output": (hidden, queries)}
    sizes |= {"attn_q_norm": (head,), "attn_k_norm": (head,)}
    if "ffn_down" in parts:
        inner = model.integer("feed_forward_length")
        up = 2 * inner if "ffn_gate" not in parts and "gate_up" in parts["ffn_up"] else inner  # both in one
        sizes |= {"ffn_gate": (inner, hidden), "ffn_up": (up, hidden), "ffn_down": (hidden, inner)}
    return sizes | _expert_sizes(model, parts)


def _expert_sizes(model: GgufModel, parts: Mapping[str, str]) -> dict[str, Shape]:
    if "ffn_down_exps" not in parts:
        return {}
    hidden, count, inner = model.hidden, model.integer("expert_count"), model.integer("expert_feed_forward_length")
    sizes: dict[str, Shape] = {"ffn_gate_inp": (count, hidden), "ffn_down_exps": (count, hidden, inner)}
    sizes |= dict.fromkeys(("ffn_gate_exps", "ffn_up_exps"), (count, inner, hidden))
    if ROW in parts:
        shared = model.integer("expert_shared_feed_forward_length")
        sizes |= {ROW: (hidden,), "ffn_down_shexp": (hidden, shared)}
        sizes |= dict.fromkeys(("ffn_gate_shexp", "ffn_up_shexp"), (shared, hidden))
    return sizes
