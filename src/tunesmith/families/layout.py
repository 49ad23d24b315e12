"""Names of modules in a compiled family's layers; sizes and multipliers.

Imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

ATTENTION_INPUTS = ("q_proj", "k_proj", "v_proj")
GATED_MLP = ("gate_proj", "up_proj", "down_proj")

# A layer's linears by the input that they share, in the order of the kernels' tables.
SHARED_INPUTS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
# In some families one matrix holds all linears of an input: its path -> those whose place it takes.
FUSED_INPUTS = {"self_attn.qkv_proj": SHARED_INPUTS[0], "mlp.gate_up_proj": SHARED_INPUTS[2]}
# A layer's norms: the field of the kernels' table -> the module.
LAYER_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
POST_NORMS = {"attention_post_norm": "post_attention_layernorm", "mlp_post_norm": "post_feedforward_layernorm"}
FOUR_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm"} | POST_NORMS
GLM_NORMS = LAYER_NORMS | {"attention_post_norm": "post_self_attn_layernorm", "mlp_post_norm": "post_mlp_layernorm"}
HEAD_NORMS = {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}  # in some families only


@dataclass(frozen=True, slots=True)
class Layout:
    """What compiled code must know of a family that its modules and config do not say."""

    norms: Mapping[str, str] = field(default_factory=lambda: LAYER_NORMS)
    norm_offset: float = 0.0  # norms multiply by this + weight
    windowed: bool = False  # without layer types in the config, `sliding_window` is that of all layers
    neighbours: bool = False  # numbers 2i and 2i + 1 of a head are rotated by the same angle, not i and i + half
    only_windows_rotate: bool = False  # beside layers with a window, those without one have no rotary embedding
    capped_scores: bool = False  # by `attn_logit_softcapping`, which others have and do not apply


class HeadShape(Protocol):
    """What `head_size` reads of a transformers config."""

    hidden_size: int
    num_attention_heads: int


class Shape(HeadShape, Protocol):
    """What is read of a transformers config, whose layers may differ."""

    num_hidden_layers: int


def head_size(config: HeadShape) -> int:
    """How many values one attention head has."""
    given: int | None = getattr(config, "head_dim", None)
    return given or config.hidden_size // config.num_attention_heads


def layer_configs(config: HeadShape) -> Sequence[HeadShape]:
    """What the config says of each layer.

    In some families layers differ in their head size.
    """
    if getattr(config, "is_heterogeneous", False):
        return [*cast(Sequence[HeadShape], config.per_layer_config)]  # type: ignore[attr-defined]
    return [config] * int(config.num_hidden_layers)  # type: ignore[attr-defined]


def inner_size(config: HeadShape, index: int) -> int:
    """The width of the MLP of the layer `index`.

    Some families have one for each layer.
    """
    given: int | Sequence[int] = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return given if isinstance(given, int) else given[index]


def token_bytes(config: Shape, element_size: int, checkpointing: bool) -> int:
    """Bytes kept per token from the forward to the backward pass.

    A layer keeps two residual inputs, two normalised inputs, queries, keys, values, the attention's output (which
    the output projection reads), gate and up; other families keep the product of these too, which the share of the
    memory that a trainer leaves free holds. With checkpointing only each layer's input is kept, and one layer at a time
    is recomputed.
    """
    layers = [_layer_values(layer, index) for index, layer in enumerate(layer_configs(config))]
    kept = config.hidden_size * len(layers) + max(layers) if checkpointing else sum(layers)
    return kept * element_size


def _layer_values(config: HeadShape, index: int) -> int:
    head = head_size(config)
    queries = head * config.num_attention_heads
    keys = head * (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    return 4 * config.hidden_size + 2 * queries + 2 * keys + 2 * inner_size(config, index)


def layer_path(index: int) -> str:
    """The path of the layer `index` in a causal model."""
    return f"model.layers.{index}"


def layer_inputs(layer: object) -> list[tuple[str, ...]]:
    """The paths of this layer's linears in it, by the input that they share."""
    fused = {names: (path,) for path, names in FUSED_INPUTS.items() if _has(layer, path)}
    return [fused.get(names, names) for names in SHARED_INPUTS]


def _has(layer: object, path: str) -> bool:
    holder, _, name = path.partition(".")
    return hasattr(getattr(layer, holder, None), name)


def norm_names(attention: object, norms: Mapping[str, str] = LAYER_NORMS) -> dict[str, str]:
    """The norms of the layer with this attention module.

    Field of the kernels' table -> path of the norm in the layer. `norms`: those of its family besides norms of heads.
    """
    return {**norms, **(HEAD_NORMS if hasattr(attention, "q_norm") else {})}


def logit_scale(config: object) -> float:
    """What the family multiplies its logits by."""
    return (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)


def logit_cap(config: object) -> float:
    """The logits become cap * tanh(logit / cap); 0: they stay."""
    return getattr(config, "final_logit_softcapping", None) or 0.0
