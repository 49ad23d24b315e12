"""Which bases can be written as a GGUF file, and what it says of their config.

A family is here once llama.cpp has answered from a file of ours with the logits of transformers. Others are refused by
name, and so is whatever of a listed family llama.cpp would compute otherwise.
Source of the keys: llama.cpp's `convert_hf_to_gguf.py`.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.families.config_file import read_text_config
from tunesmith.families.table import FULL_ATTENTION, WHOLES
from tunesmith.jsonvalue import JsonObject, JsonValue

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}  # transformers' -> GGUF's
INTERLEAVED = frozenset({"llama"})  # rotate neighbouring values of a head: queries and keys are laid out for that
ROTATIONS = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a GGUF file says of a base's layers."""

    architecture: str  # GGUF's name for it
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    vocabulary: int
    norm_epsilon: float
    rope_theta: float
    rope: JsonObject
    tied: bool

    @property
    def is_interleaved(self) -> bool:
        """Whether queries and keys have the two rotary halves of a head interleaved."""
        return self.architecture in INTERLEAVED


def read_shape(base_dir: Path) -> Shape:
    """The shape of the base in `base_dir`.

    Raises InvalidRequest naming what of it cannot be written as GGUF.
    """
    config = read_text_config(base_dir)
    family = str(config.get("model_type"))
    _check(config, family)
    rope = _object(config.get("rope_parameters") or config.get("rope_scaling"))
    heads, hidden = _int(config, "num_attention_heads"), _int(config, "hidden_size")
    return Shape(
        architecture=ARCHITECTURES[family],
        layers=_int(config, "num_hidden_layers"),
        hidden=hidden,
        inner=_int(config, "intermediate_size"),
        heads=heads,
        kv_heads=int(cast(int, config.get("num_key_value_heads") or heads)),
        head_dim=int(cast(int, config.get("head_dim") or (128 if family == "qwen3" else hidden // heads))),
        context=_int(config, "max_position_embeddings"),
        vocabulary=_int(config, "vocab_size"),
        norm_epsilon=float(cast(float, config.get("rms_norm_eps") or 1e-6)),
        rope_theta=float(cast(float, rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)),
        rope=rope,
        tied=bool(config.get("tie_word_embeddings")),
    )


def _check(config: JsonObject, family: str) -> None:
    if family not in ARCHITECTURES:
        also = " (images and sound cannot be exported)" if family in WHOLES else ""
        raise InvalidRequest(
            f"The family {family} cannot be written as GGUF here{also}; these can: {', '.join(sorted(ARCHITECTURES))}."
            " Export the merged weights (--to safetensors) and convert them with llama.cpp's own converter."
        )
    reason = _reason(config, family)
    if reason is not None:
        raise InvalidRequest(f"This base of the family {family} cannot be written as GGUF here: {reason}.")


def _reason(config: JsonObject, family: str) -> str | None:
    """What llama.cpp would compute otherwise."""
    rope = _object(config.get("rope_parameters") or config.get("rope_scaling"))
    kind = rope.get("rope_type") or rope.get("type") or "default"
    kinds = config.get("layer_types")
    windowed = isinstance(kinds, list) and any(one != FULL_ATTENTION for one in kinds)
    if config.get("hidden_act", "silu") != "silu":
        return f"its activation is {config['hidden_act']}, not SiLU"
    if kind not in ROTATIONS:
        return f"its rotary embedding is of the kind {kind}"
    if windowed or (family == "mistral" and config.get("sliding_window")):
        return "some of its layers attend to a window only"
    if config.get("mlp_bias") or (family != "qwen2" and config.get("attention_bias")):
        return "its layers have biases"
    if config.get("quantization_config"):
        return "its weights are quantized already"
    return None


def rope_factors(shape: Shape) -> NDArray[np.float32] | None:
    """What Llama 3 divides each rotary frequency by; None for other kinds.

    Source: `convert_hf_to_gguf.py`, and transformers' `_compute_llama3_parameters`.
    """
    rope = shape.rope
    if rope.get("rope_type") != "llama3":
        return None
    factor, low, high = (float(cast(float, rope[name])) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    context = float(cast(int, rope["original_max_position_embeddings"]))
    frequencies = shape.rope_theta ** -(np.arange(0, shape.head_dim, 2, dtype=np.float64) / shape.head_dim)
    waves = 2 * math.pi / frequencies
    smooth = (context / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(waves < context / high, 1.0, np.where(waves > context / low, factor, between))
    return factors.astype(np.float32)


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _int(config: JsonObject, name: str) -> int:
    return int(cast(int, config[name]))
