"""Gemma 3's GGUF files, with its SentencePiece vocabulary.

llama.cpp writes the norms with the 1 that transformers adds when it computes, and its files leave out what it knows of
the family: the base of the windowed layers' rotation, which layers see everything, the scale of the queries. Source:
llama.cpp's `convert_hf_to_gguf.py` and `src/models/gemma3.cpp`; the values are those of Google's configs.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.gguf.metadata import GLOBAL_NAMES, GgufReader, Metadata, block_part, dequantised
from tunesmith.models.gguf.tokens import CONTROL, NORMAL, USER_DEFINED, added_token

EVERY, LOCAL_BASE = 6, 10_000.0  # each sixth layer sees everything; the others rotate with this base
LARGEST_LAYERS = 62  # of the 27B, whose queries are scaled otherwise
SPACE = "▁"
START, END = "<start_of_turn>", "<end_of_turn>"
# Gemma's turns, for a file without a template of its own; a system message is read before the first user turn.
TEMPLATE = (
    "{{ bos_token }}{% set system = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] | trim + '\n\n' %}{% endif %}"
    "{% for m in (messages[1:] if system else messages) %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    f"{START}{{{{ 'model' if m['role'] == 'assistant' else m['role'] }}}}\n"
    "{{ system if loop.first else '' }}{{ m['content'] | trim }}"
    f"{END}\n{{% endfor %}}{{% if add_generation_prompt %}}{START}model\n{{% endif %}}"
)


def config(metadata: Metadata, *, tied: bool) -> JsonObject:
    """config.json."""
    layers, hidden = metadata.integer("gemma3.block_count"), metadata.integer("gemma3.embedding_length")
    heads, head = metadata.integer("gemma3.attention.head_count"), metadata.integer("gemma3.attention.key_length")
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": len(metadata.strings("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": metadata.integer("gemma3.feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.integer("gemma3.attention.head_count_kv"),
        "head_dim": head,
        "query_pre_attn_scalar": hidden // heads if layers == LARGEST_LAYERS else head,
        "max_position_embeddings": metadata.integer("gemma3.context_length"),
        "sliding_window": metadata.integer("gemma3.attention.sliding_window"),
        "layer_types": ["sliding_attention" if (index + 1) % EVERY else "full_attention" for index in range(layers)],
        "rope_parameters": _rotation(metadata),
        "rms_norm_eps": float(f"{metadata.number('gemma3.attention.layer_norm_rms_epsilon'):.6g}"),
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": tied,
        "bos_token_id": metadata.integer("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.integer("tokenizer.ggml.eos_token_id"),
        "pad_token_id": metadata.integer("tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }


def _rotation(metadata: Metadata) -> JsonObject:
    factor = metadata.number("gemma3.rope.scaling.factor", 1.0)
    whole: JsonObject = {"rope_type": "default", "rope_theta": metadata.number("gemma3.rope.freq_base")}
    if factor != 1.0:
        whole |= {"rope_type": "linear", "factor": factor}
    return {"full_attention": whole, "sliding_attention": {"rope_type": "default", "rope_theta": LOCAL_BASE}}


def tokenizer(metadata: Metadata) -> JsonObject:
    """tokenizer.json of SentencePiece's BPE.

    The pair whose piece has the best score is joined first.
    """
    if metadata.value("tokenizer.ggml.model") != "llama":
        raise InvalidRequest(
            f"GGUF tokenizer {metadata.value('tokenizer.ggml.model')!r} is not the one of Gemma 3 ('llama'). Use the"
            " model's Hugging Face directory instead."
        )
    tokens, kinds = metadata.strings("tokenizer.ggml.tokens"), metadata.integers("tokenizer.ggml.token_type")
    replaced: JsonObject = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, kinds),
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [replaced, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": _model(metadata, tokens, kinds),
    }


def _added(tokens: list[str], kinds: list[int]) -> list[JsonValue]:
    """Special tokens, and those that are found once spaces were replaced, as SentencePiece does."""
    found: list[JsonValue] = []
    for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind == CONTROL:
            found.append(added_token(index, token))
        elif kind == USER_DEFINED:
            found.append(added_token(index, token, special=False, normalized=True))
    return found


def _model(metadata: Metadata, tokens: list[str], kinds: list[int]) -> JsonObject:
    scored = zip(tokens, kinds, metadata.numbers("tokenizer.ggml.scores"), strict=True)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokens[metadata.integer("tokenizer.ggml.unknown_token_id")],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": _merges({token: score for token, kind, score in scored if kind == NORMAL}),
    }


def _merges(scores: dict[str, float]) -> list[JsonValue]:
    """The pairs of pieces that make a piece, best score of the result first."""
    pairs = [
        (-score, token[:cut], token[cut:])
        for token, score in scores.items()
        for cut in range(1, len(token))
        if token[:cut] in scores and token[cut:] in scores
    ]
    pairs.sort(key=lambda pair: pair[0])  # stable: of one piece the shortest beginning first
    return [[left, right] for _, left, right in pairs]


def tokenizer_config(metadata: Metadata) -> JsonObject:
    """tokenizer_config.json; a file without a template gets Gemma's turns."""
    tokens = metadata.strings("tokenizer.ggml.tokens")
    named = {
        f"{name}_token": tokens[metadata.integer(f"tokenizer.ggml.{key}_token_id")]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))
    }
    template = metadata.get("tokenizer.chat_template")
    if template is None and {START, END} <= set(tokens):
        template = TEMPLATE
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **({"chat_template": str(template)} if template is not None else {}),
        **named,
        "add_bos_token": True,
        "model_max_length": metadata.integer("gemma3.context_length"),
        "clean_up_tokenization_spaces": False,
    }


def ends(metadata: Metadata) -> JsonValue:
    """The tokens that end an answer."""
    tokens = metadata.strings("tokenizer.ggml.tokens")
    turn = [index for index, token in enumerate(tokens) if token == END]
    return [metadata.integer("tokenizer.ggml.eos_token_id"), *turn]


_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def tensors(reader: GgufReader, metadata: Metadata) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The weights by the names that transformers has for them."""
    for name, values in dequantised(reader):
        if name.endswith("norm.weight"):
            values = values - np.float32(1)
        if name in GLOBAL_NAMES:
            yield GLOBAL_NAMES[name], values
            continue
        block, part = block_part(name)
        yield f"model.layers.{block}.{_BLOCK_NAMES[part]}.weight", values
