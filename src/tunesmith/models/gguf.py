"""Converts a GGUF file to a Hugging Face directory with dequantised weights.

It does not use transformers' GGUF loader, which drops the digit pre-tokenizer of SmolLM2 (numbers would get other ids
than the model was trained on) and returns a model that cannot be saved.

What is not covered: architectures other than llama, and tokenizers other than byte-level BPE; both are refused.
Source of the key names: the GGUF specification and llama.cpp's `llama-vocab.cpp` for the pre-tokenizer rules.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.headers.gguf_header import BadGguf, check_header

MOST_SAID = 500  # characters of an error
CONTROL_TOKEN = 3  # GGUF's token_type of special tokens
USER_DEFINED_TOKEN = 4


class _Field(Protocol):
    def contents(self, index_or_slice: int | slice = ...) -> object: ...


class _Tensor(Protocol):
    name: str
    data: NDArray[np.generic]
    tensor_type: object


class _Reader(Protocol):
    fields: dict[str, _Field]
    tensors: list[_Tensor]


def convert(gguf_file: Path, directory: Path) -> None:
    """Writes the model into `directory`, in Hugging Face's layout and float32.

    Raises InvalidRequest for a file that is damaged or of another kind.
    """
    try:
        check_header(gguf_file)
        _convert(gguf_file, directory)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, BadGguf) else f"its keys and tensors do not fit ({error})"
        raise InvalidRequest(f"{gguf_file.name} cannot be converted: {said[:MOST_SAID]}. Download it again.") from error


def _convert(gguf_file: Path, directory: Path) -> None:
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader: _Reader = GGUFReader(gguf_file)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    if metadata.get("general.architecture") != "llama":
        raise InvalidRequest(
            f"{gguf_file.name} has architecture {metadata.get('general.architecture')!r}; only llama GGUF files can be"
            " converted. Use the model's Hugging Face directory instead."
        )
    tensors = dict(_tensors(reader, metadata))
    _write_json(directory / "config.json", _config(metadata, tied="lm_head.weight" not in tensors))
    _write_json(directory / "tokenizer.json", _tokenizer(metadata))
    _write_json(directory / "tokenizer_config.json", _tokenizer_config(metadata))
    _write_json(directory / "generation_config.json", {"eos_token_id": _int(metadata, "tokenizer.ggml.eos_token_id")})
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, value: JsonObject) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def _config(metadata: dict[str, object], *, tied: bool) -> JsonObject:
    heads = _int(metadata, "llama.attention.head_count")
    hidden = _int(metadata, "llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": _int(metadata, "llama.vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": _int(metadata, "llama.feed_forward_length"),
        "num_hidden_layers": _int(metadata, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _int(metadata, "llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "max_position_embeddings": _int(metadata, "llama.context_length"),
        "rope_parameters": {"rope_type": "default", "rope_theta": _float(metadata, "llama.rope.freq_base")},
        # Stored as float32 in the file, so 1e-5 reads as 9.99999974e-06.
        "rms_norm_eps": float(f"{_float(metadata, 'llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": _int(metadata, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _int(metadata, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _int(metadata, "tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }


def _tokenizer(metadata: dict[str, object]) -> JsonObject:
    """tokenizer.json of a byte-level BPE that splits digits one by one, then words by GPT-2's rule."""
    if metadata.get("tokenizer.ggml.model") != "gpt2" or metadata.get("tokenizer.ggml.pre") != "smollm":
        raise InvalidRequest(
            f"GGUF tokenizer {metadata.get('tokenizer.ggml.model')!r}/{metadata.get('tokenizer.ggml.pre')!r} is not"
            " supported (only gpt2/smollm). Use the model's Hugging Face directory instead."
        )
    tokens, types = _strings(metadata, "tokenizer.ggml.tokens"), _ints(metadata, "tokenizer.ggml.token_type")
    special = {CONTROL_TOKEN, USER_DEFINED_TOKEN}
    kinds = enumerate(zip(tokens, types, strict=True))
    digits: JsonObject = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special_token(index, token) for index, (token, kind) in kinds if kind in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, _byte_level(add_prefix_space=False)]},
        "post_processor": None,
        "decoder": _byte_level(add_prefix_space=True),
        "model": _bpe(tokens, _strings(metadata, "tokenizer.ggml.merges")),
    }


def _special_token(index: int, token: str) -> JsonObject:
    return {
        "id": index,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
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


def _tokenizer_config(metadata: dict[str, object]) -> JsonObject:
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": str(_value(metadata, "tokenizer.chat_template")),
        "bos_token": tokens[_int(metadata, "tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[_int(metadata, "tokenizer.ggml.eos_token_id")],
        "pad_token": tokens[_int(metadata, "tokenizer.ggml.padding_token_id")],
        "unk_token": tokens[_int(metadata, "tokenizer.ggml.unknown_token_id")],
        "model_max_length": _int(metadata, "llama.context_length"),
        "clean_up_tokenization_spaces": False,
    }


_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
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


def _tensors(reader: _Reader, metadata: dict[str, object]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    from gguf import dequantize

    heads = {
        "attn_q": _int(metadata, "llama.attention.head_count"),
        "attn_k": _int(metadata, "llama.attention.head_count_kv"),
    }
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in _GLOBAL_NAMES:
            yield _GLOBAL_NAMES[tensor.name], values
            continue
        _, block, part, _ = tensor.name.split(".")
        if part in heads:
            values = _unpermute(values, heads[part])
        yield f"model.layers.{block}.{_BLOCK_NAMES[part]}.weight", values


def _unpermute(weight_OI: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Separates the two rotary halves of each head, as transformers has them; llama.cpp interleaves them."""
    out_features, in_features = weight_OI.shape
    split = weight_OI.reshape(heads, out_features // heads // 2, 2, in_features)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(out_features, in_features))


def _value(metadata: dict[str, object], name: str) -> object:
    if name not in metadata:
        raise InvalidRequest(f"GGUF key {name} is missing: the file is damaged.")
    return metadata[name]


def _int(metadata: dict[str, object], name: str) -> int:
    value = _value(metadata, name)
    if not isinstance(value, int):
        raise InvalidRequest(f"GGUF key {name} is {value!r}, not an integer: the file is damaged.")
    return value


def _float(metadata: dict[str, object], name: str) -> float:
    value = _value(metadata, name)
    if not isinstance(value, (int, float)):
        raise InvalidRequest(f"GGUF key {name} is {value!r}, not a number: the file is damaged.")
    return float(value)


def _strings(metadata: dict[str, object], name: str) -> list[str]:
    value = _value(metadata, name)
    if not isinstance(value, list):
        raise InvalidRequest(f"GGUF key {name} is not a list: the file is damaged.")
    return [str(item) for item in value]


def _ints(metadata: dict[str, object], name: str) -> list[int]:
    value = _value(metadata, name)
    if not isinstance(value, list):
        raise InvalidRequest(f"GGUF key {name} is not a list: the file is damaged.")
    return [int(item) for item in value]
