"""Bases of the shapes that people tune, with random weights: for speed and memory, where no hub is at hand.

Each is made once, in bfloat16 as such bases are published, in Tunesmith's cache directory. The tokenizer is the default
base's: a tenth of a real vocabulary is used by it, and the output layer has all of it.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings

TOKENIZER_OF = "smollm2-135m-instruct"
SPREAD = 0.02  # of the weights
LLAMA_ROTATION = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _qwen3(hidden: int, inner: int) -> dict[str, object]:
    return {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "vocab_size": 151936,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000,
        "rms_norm_eps": 1e-6,
    }


def _llama(hidden: int, layers: int, heads: int, head: int) -> dict[str, object]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 128256,
        "hidden_size": hidden,
        "intermediate_size": 8192,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": head,
        "max_position_embeddings": 131072,
        "rope_parameters": LLAMA_ROTATION,
        "rms_norm_eps": 1e-5,
    }


SHAPES = {
    "qwen3-0.6b": _qwen3(1024, 3072),
    "llama3.2-1b": _llama(2048, 16, 32, 64),
    "qwen3-1.7b": _qwen3(2048, 6144),
    "llama3.2-3b": _llama(3072, 28, 24, 128),
}


def base_of_shape(name: str, settings: Settings) -> Path:
    """The directory of a base of this shape; made where it is not there, in up to a minute."""
    directory = settings.cache_dir / "bench" / "shapes" / name
    if not directory.is_dir():
        print(f"(Making random weights of the shape {name}, once.)", flush=True)
        partial = directory.with_name(f"{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _make(SHAPES[name], pull(resolve_base(TOKENIZER_OF, settings), settings), partial)
        partial.rename(directory)
    return directory


def _make(shape: dict[str, object], tokenizer: Path, directory: Path) -> None:
    for path in tokenizer.glob("*token*"):
        shutil.copy(path, directory / path.name)
    ends = json.loads((tokenizer / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    common = {"hidden_act": "silu", "tie_word_embeddings": True, "dtype": "bfloat16", "eos_token_id": ends}
    (directory / "config.json").write_text(json.dumps(shape | common, indent=1))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    places, total = dict[str, str](), 0
    for number, tensors in enumerate(_files(shape)):
        file = f"model-{number:05}.safetensors"
        save_file(tensors, directory / file, {"format": "pt"})
        places |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def _files(shape: dict[str, object]) -> Iterator[dict[str, Tensor]]:
    """The tensors of each file: one for the embeddings, one for each layer."""
    draw = torch.Generator().manual_seed(0)
    size = {name: value for name, value in shape.items() if isinstance(value, int)}
    hidden, inner, head = size["hidden_size"], size["intermediate_size"], size["head_dim"]
    queries, keys = head * size["num_attention_heads"], head * size["num_key_value_heads"]

    def random(*sizes: int) -> Tensor:
        return torch.empty(sizes).normal_(std=SPREAD, generator=draw).bfloat16()

    def ones(count: int) -> Tensor:
        return torch.ones(count, dtype=torch.bfloat16)

    yield {"model.embed_tokens.weight": random(size["vocab_size"], hidden), "model.norm.weight": ones(hidden)}
    normed = shape["model_type"] == "qwen3"
    for layer in range(size["num_hidden_layers"]):
        tensors = {
            "self_attn.q_proj.weight": random(queries, hidden),
            "self_attn.k_proj.weight": random(keys, hidden),
            "self_attn.v_proj.weight": random(keys, hidden),
            "self_attn.o_proj.weight": random(hidden, queries),
            "mlp.gate_proj.weight": random(inner, hidden),
            "mlp.up_proj.weight": random(inner, hidden),
            "mlp.down_proj.weight": random(hidden, inner),
            "input_layernorm.weight": ones(hidden),
            "post_attention_layernorm.weight": ones(hidden),
        }
        if normed:
            tensors |= {f"self_attn.{which}_norm.weight": ones(head) for which in ("q", "k")}
        yield {f"model.layers.{layer}.{name}": tensor for name, tensor in tensors.items()}
