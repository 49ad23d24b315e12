"""Llama's GGUF files, with the byte-level BPE of SmolLM2.

Source of the pre-tokenizer's rules: llama.cpp's `llama-vocab.cpp`.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.gguf.metadata import GLOBAL_NAMES, GgufReader, Metadata, block_part, dequantised
from tunesmith.models.gguf.tokens import ADDED, added_token


def config(metadata: Metadata, *, tied: bool) -> JsonObject:
    """config.json."""
    heads = metadata.integer("llama.attention.head_count")
    hidden = metadata.integer("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": metadata.integer("llama.vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": metadata.integer("llama.feed_forward_length"),
        "num_hidden_layers": metadata.integer("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.integer("llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "max_position_embeddings": metadata.integer("llama.context_length"),
        "rope_parameters": {"rope_type": "default", "rope_theta": metadata.number("llama.rope.freq_base")},
        # Stored as float32 in the file, so 1e-5 reads as 9.99999974e-06.
        "rms_norm_eps": float(f"{metadata.number('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": metadata.integer("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.integer("tokenizer.ggml.eos_token_id"),
        "pad_token_id": metadata.integer("tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }


def tokenizer(metadata: Metadata) -> JsonObject:
    """tokenizer.json of a byte-level BPE.

    It splits digits one by one, then words by GPT-2's rule.
    """
    model, pre = (metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if model != "gpt2" or pre != "smollm":
        raise InvalidRequest(
            f"GGUF tokenizer {model!r}/{pre!r} is not supported (only gpt2/smollm). Use the model's Hugging Face"
            " directory instead."
        )
    tokens, types = metadata.strings("tokenizer.ggml.tokens"), metadata.integers("tokenizer.ggml.token_type")
    kinds = enumerate(zip(tokens, types, strict=True))
    digits: JsonObject = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(index, token) for index, (token, kind) in kinds if kind in ADDED],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, _byte_level(add_prefix_space=False)]},
        "post_processor": None,
        "decoder": _byte_level(add_prefix_space=True),
        "model": _bpe(tokens, metadata.strings("tokenizer.ggml.merges")),
    }


def _byte_level(*, add_prefix_space: bool) -> JsonObject:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}


def _bpe(tokens: list[str], merges: list[str]) -> JsonObject:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": [list(merge.split(" ")) for merge in merges],
    }


def tokenizer_config(metadata: Metadata) -> JsonObject:
    """tokenizer_config.json."""
    tokens = metadata.strings("tokenizer.ggml.tokens")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": str(metadata.value("tokenizer.chat_template")),
        "bos_token": tokens[metadata.integer("tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[metadata.integer("tokenizer.ggml.eos_token_id")],
        "pad_token": tokens[metadata.integer("tokenizer.ggml.padding_token_id")],
        "unk_token": tokens[metadata.integer("tokenizer.ggml.unknown_token_id")],
        "model_max_length": metadata.integer("llama.context_length"),
        "clean_up_tokenization_spaces": False,
    }


def ends(metadata: Metadata) -> JsonValue:
    """The token that ends an answer."""
    return metadata.integer("tokenizer.ggml.eos_token_id")


_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def tensors(reader: GgufReader, metadata: Metadata) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The weights by the names that transformers has for them."""
    heads = {
        "attn_q": metadata.integer("llama.attention.head_count"),
        "attn_k": metadata.integer("llama.attention.head_count_kv"),
    }
    for name, values in dequantised(reader):
        if name in GLOBAL_NAMES:
            yield GLOBAL_NAMES[name], values
            continue
        block, part = block_part(name)
        if part in heads:
            values = _unpermute(values, heads[part])
        yield f"model.layers.{block}.{_BLOCK_NAMES[part]}.weight", values


def _unpermute(weight_OI: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Separates the two rotary halves of each head, as transformers has them; llama.cpp interleaves them."""
    out_features, in_features = weight_OI.shape
    split = weight_OI.reshape(heads, out_features // heads // 2, 2, in_features)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(out_features, in_features))
