"""Tiny random models of each architecture that is read, and GGUF files of them with the gguf package's own names."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, get_tensor_name_map, quantize
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

WIDTH, HEADS, KV_HEADS, HEAD, LAYERS, CONTEXT = 256, 4, 2, 64, 2, 64
BYTES = [chr(one) for one in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
TOKENS = ["<|start|>", "<|end|>", "<tool>", *BYTES, "12", "he", "ll", "hell", "hello"]
MERGES = ["1 2", "h e", "l l", "he ll", "hell o"]
TYPES = [3, 3, 4, *[1] * (len(TOKENS) - 3)]
RAW = GGMLQuantizationType.F32
HALVES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # scales of a block
SCALE = 2e-4  # so that a tiny model's logits are no larger than others'


@dataclass(frozen=True)
class Tiny:
    """`config` is what transformers builds the model from, `keys` what its GGUF file says besides `KEYS`."""

    model_type: str
    config: dict[str, object] = field(default_factory=dict)
    keys: dict[str, object] = field(default_factory=dict)


EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH, "decoder_sparse_step": 1,
}  # fmt: skip
EXPERT_KEYS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": WIDTH}
CAPPED = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
GEMMA_KEYS = {"attention.key_length": HEAD, "attention.sliding_window": 4}
FILES = {
    "llama": Tiny("llama", {"head_dim": HEAD}, {"attention.key_length": HEAD, "rope.dimension_count": HEAD}),
    "qwen2": Tiny("qwen2"),
    "qwen2moe": Tiny(
        "qwen2_moe",
        {**EXPERTS, "shared_expert_intermediate_size": WIDTH, "norm_topk_prob": False},
        {**EXPERT_KEYS, "expert_shared_feed_forward_length": WIDTH},
    ),
    "qwen3": Tiny("qwen3", {"head_dim": HEAD}, {"attention.key_length": HEAD}),
    "qwen3moe": Tiny(
        "qwen3_moe",
        {**EXPERTS, "head_dim": HEAD, "norm_topk_prob": True},
        {**EXPERT_KEYS, "attention.key_length": HEAD},
    ),
    "phi3": Tiny("phi3", {"pad_token_id": None}, {"rope.dimension_count": HEAD}),
    "starcoder2": Tiny("starcoder2", {"use_bias": True}, {"attention.layer_norm_epsilon": 1e-5}),
    "gemma2": Tiny(
        "gemma2",
        {"head_dim": HEAD, "query_pre_attn_scalar": HEAD, "sliding_window": 4, "tie_word_embeddings": True, **CAPPED},
        {**GEMMA_KEYS, **CAPPED},
    ),
    "gemma3": Tiny(
        "gemma3_text", {"head_dim": HEAD, "query_pre_attn_scalar": HEAD, "sliding_window": 4}, {**GEMMA_KEYS}
    ),
}
KEYS: dict[str, object] = {
    "context_length": CONTEXT, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": WIDTH,
    "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "rope.freq_base": 10_000.0,
    "attention.layer_norm_rms_epsilon": 1e-6,
}  # fmt: skip
VOCABULARY: dict[str, object] = {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": TYPES, "tokenizer.ggml.merges": MERGES, "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
}  # fmt: skip


def tiny_model(architecture: str, **changes: object) -> PreTrainedModel:
    """A random model in eval mode; its norms and biases are random too."""
    tiny = FILES[architecture]
    torch.manual_seed(1)
    config = AutoConfig.for_model(
        tiny.model_type,
        **{
            "vocab_size": len(TOKENS), "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-6, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False,
            **tiny.config, **changes,
        },
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def write_file(
    path: Path,
    architecture: str,
    model: PreTrainedModel,
    kind: GGMLQuantizationType | Callable[[str], GGMLQuantizationType] = RAW,
    keys: dict[str, object] | None = None,
    extra: dict[str, NDArray[np.float32]] | None = None,
) -> Path:
    """The model's matrices as `kind`, or what that says of their names, vectors in float32.

    Keys with None are left out.
    """
    writer = GGUFWriter(path, architecture)
    own = {f"{architecture}.{key}": value for key, value in (KEYS | FILES[architecture].keys).items()}
    for key, value in (own | VOCABULARY | (keys or {})).items():
        _add_key(writer, key, value)
    for name, values in {**named(architecture, model), **(extra or {})}.items():
        own = kind if isinstance(kind, GGMLQuantizationType) else kind(name)
        packed = values if values.ndim == 1 else pack(values, own)
        writer.add_tensor(name, packed, raw_dtype=None if values.ndim == 1 else own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_key(writer: GGUFWriter, key: str, value: object) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)


def pack(values: NDArray[np.float32], kind: GGMLQuantizationType) -> NDArray[np.generic]:
    """The values as `kind`, or for kinds that the gguf package cannot write, bytes that stand for some others."""
    try:
        packed: NDArray[np.generic] = quantize(values, kind)
    except NotImplementedError:
        from gguf.quants import quant_shape_to_byte_shape

        shape = quant_shape_to_byte_shape(values.shape, kind)
        packed = np.random.default_rng(1).integers(0, 48, shape).astype(np.uint8)  # no scale in them is not finite
        for at in HALVES.get(kind.name, ()):
            size = GGML_QUANT_SIZES[kind][1]
            packed.reshape(-1, size)[:, at : at + 2] = np.array([SCALE], np.float16).view(np.uint8)
    return packed


def named(architecture: str, model: PreTrainedModel) -> dict[str, NDArray[np.float32]]:
    """The model's weights as llama.cpp's converter writes them."""
    kinds = {name: kind for kind, name in MODEL_ARCH_NAMES.items()}
    table, found = get_tensor_name_map(kinds[architecture], LAYERS), {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        block = name.removeprefix("model.layers.").partition(".")[0]
        if name.endswith("experts.gate_up_proj"):
            for part, half in zip(("gate", "up"), np.split(values, 2, axis=1), strict=True):
                found[f"blk.{block}.ffn_{part}_exps.weight"] = np.ascontiguousarray(half)
        elif name.endswith("experts.down_proj"):
            found[f"blk.{block}.ffn_down_exps.weight"] = values
        else:
            found[str(table.get_name(name, (".weight", ".bias")))] = _stored(architecture, name, values)
    return found


def _stored(architecture: str, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    if architecture.startswith("gemma") and "norm" in name:
        return values + np.float32(1)
    if name.endswith("shared_expert_gate.weight"):
        first: NDArray[np.float32] = values[0]
        return first
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = HEADS if "q_proj" in name else KV_HEADS
        split = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))
    return values
