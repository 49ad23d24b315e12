"""A tiny Llama of random weights, as a GGUF file and as a Hugging Face directory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, INNER, HEADS, KV_HEADS, LAYERS = 8, 12, 2, 1, 1
TOKENS = ["<unk>", "<s>", "</s>", "<pad>", *"abc", "Ġ", "1", "2", "ab"]
CONTROL = [2, 3, 3, 3]  # GGUF's kinds of the first tokens: unknown, control
Writer = Callable[..., Path]


@pytest.fixture
def write_gguf(tmp_path: Path) -> Writer:
    """Writes a GGUF file; what is passed by name replaces a key of its metadata, None leaves it out."""

    def write(name: str = "tiny.gguf", architecture: str = "llama", **changes: object) -> Path:
        values: dict[str, object] = {
            "llama.vocab_size": len(TOKENS),
            "llama.context_length": 64,
            "llama.embedding_length": HIDDEN,
            "llama.feed_forward_length": INNER,
            "llama.block_count": LAYERS,
            "llama.attention.head_count": HEADS,
            "llama.attention.head_count_kv": KV_HEADS,
            "llama.rope.freq_base": 10000.0,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": CONTROL + [1] * (len(TOKENS) - len(CONTROL)),
            "tokenizer.ggml.merges": ["a b"],
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.padding_token_id": 3,
            "tokenizer.chat_template": "{{ messages }}",
        } | {key.replace("__", "."): value for key, value in changes.items()}
        writer = GGUFWriter(tmp_path / name, architecture)
        for key, value in values.items():
            _add(writer, key, value)
        for tensor, shape in _shapes().items():
            writer.add_tensor(tensor, np.random.default_rng(len(tensor)).normal(size=shape).astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / name

    return write


def _add(writer: GGUFWriter, key: str, value: object) -> None:
    match value:
        case None:
            return
        case list():
            writer.add_array(key, value)
        case str():
            writer.add_string(key, value)
        case float():
            writer.add_float32(key, value)
        case int():
            writer.add_uint32(key, value)


def _shapes() -> dict[str, tuple[int, ...]]:
    kv = HIDDEN // HEADS * KV_HEADS
    block = {
        "attn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (kv, HIDDEN),
        "attn_v": (kv, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_norm": (HIDDEN,),
        "ffn_gate": (INNER, HIDDEN),
        "ffn_up": (INNER, HIDDEN),
        "ffn_down": (HIDDEN, INNER),
    }
    return {
        "token_embd.weight": (len(TOKENS), HIDDEN),
        "output_norm.weight": (HIDDEN,),
        **{f"blk.0.{name}.weight": shape for name, shape in block.items()},
    }


@pytest.fixture
def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENS),
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=64,
        )
    ).eval()


@pytest.fixture
def tiny_dir(tiny_model: LlamaForCausalLM, tmp_path: Path) -> Path:
    """The tiny model on disk, with the files of a tokenizer."""
    directory = tmp_path / "tiny"
    tiny_model.save_pretrained(directory)
    (directory / "tokenizer.json").write_text('{"model": {}}')
    (directory / "tokenizer_config.json").write_text("{}")
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    return directory
