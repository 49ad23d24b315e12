"""What a base takes of a machine, told before its weights are downloaded."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

from tunesmith.families.config_file import text_values
from tunesmith.families.layout import Shape, head_size, inner_size, token_bytes
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.facts import FLOAT32_BYTES, is_compiled
from tunesmith.models.options_check import STATE_BYTES

NARROW = ("bfloat16", "float16")
PROCESS_BYTES = 700 << 20  # Python with torch and transformers: assumed; the sum was compared, see `needs`
ROW_TOKENS = 1024  # of the rows that are taken for an estimate without a file
LORA_RANK = 16  # ditto, without settings
LOGIT_TOKENS = 1024  # of which logits are in memory at most, with what is made of them
SLICE_LOGIT_TOKENS = 256  # ditto, where the output layer is compiled


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes on a CPU.

    Weights are in 16 bits where compiled code reads them so, all else is in float32.

    `least` is with activations that are computed again instead of being kept.
    """

    serving: int
    training: int
    least: int


def needs(
    config: JsonObject, parameters: int, rank: int = LORA_RANK, tokens: int = ROW_TOKENS, *, narrow: bool | None = None
) -> Needs:
    """What serving, and training a LoRA on rows of `tokens` tokens, take.

    `narrow`: whether the weights are stored in 16 bits; None: as the config says. Measured peaks of whole runs: SmolLM2
    135M 2.1 to 2.4 GB (2.5 here), Gemma 3 270M, whose vocabulary is five times as large, 4.6 GB (4.3 here).
    """
    values = text_values(config)
    shape, family = cast(Shape, SimpleNamespace(**values)), str(values.get("model_type"))
    if narrow is None:
        narrow = any(str(part.get(name)) in NARROW for part in (config, values) for name in ("dtype", "torch_dtype"))
    narrow = narrow and is_compiled(family)
    weights = _weights(parameters, narrow=narrow)
    state = STATE_BYTES * _lora_weights(shape, rank) + _output_bytes(shape, narrow=narrow)
    kept, least = (tokens * token_bytes(shape, FLOAT32_BYTES, again) for again in (False, True))
    return Needs(weights, weights + state + kept, weights + state + least)


def _weights(parameters: int, *, narrow: bool) -> int:
    return parameters * (FLOAT32_BYTES // 2 if narrow else FLOAT32_BYTES) + PROCESS_BYTES


def _output_bytes(shape: Shape, *, narrow: bool) -> int:
    """The logits of some tokens; and the output layer's second layout, for the backward pass, in float32."""
    vocabulary: int = getattr(shape, "vocab_size", 0)
    if narrow:
        return FLOAT32_BYTES * vocabulary * SLICE_LOGIT_TOKENS
    return FLOAT32_BYTES * vocabulary * (shape.hidden_size + LOGIT_TOKENS)


def _lora_weights(shape: Shape, rank: int) -> int:
    """The weights of a LoRA on all linear layers of the blocks."""
    hidden, head = shape.hidden_size, head_size(shape)
    queries = head * shape.num_attention_heads
    keys = head * (getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads)
    layers = shape.num_hidden_layers
    inner = sum(inner_size(shape, index) for index in range(layers))
    attention = layers * (2 * (hidden + queries) + 2 * (hidden + keys))
    return rank * (attention + 3 * (layers * hidden + inner))
