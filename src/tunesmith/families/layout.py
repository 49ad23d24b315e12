"""Names of the modules in a compiled family's layers, and sizes from its config.

Imports no torch.
"""

from typing import Protocol

ATTENTION_INPUTS = ("q_proj", "k_proj", "v_proj")
GATED_MLP = ("gate_proj", "up_proj", "down_proj")

# A layer's linears by the input that they share, in the order of the kernels' tables.
SHARED_INPUTS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
# A layer's norms: the field of the kernels' table -> the module.
LAYER_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
HEAD_NORMS = {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}  # in some families only


class HeadShape(Protocol):
    """What `head_size` reads of a transformers config."""

    hidden_size: int
    num_attention_heads: int


def head_size(config: HeadShape) -> int:
    """How many values one attention head has."""
    given: int | None = getattr(config, "head_dim", None)
    return given or config.hidden_size // config.num_attention_heads


def layer_path(index: int) -> str:
    """The path of the layer `index` in a causal model."""
    return f"model.layers.{index}"


def shared_inputs(index: int) -> list[tuple[str, ...]]:
    """The paths of a layer's linears in a causal model, by the input that they share."""
    return [tuple(f"{layer_path(index)}.{name}" for name in names) for names in SHARED_INPUTS]


def norm_names(attention: object) -> dict[str, str]:
    """The norms of the layer with this attention module.

    Field of the kernels' table -> path of the norm in the layer.
    """
    return LAYER_NORMS | (HEAD_NORMS if hasattr(attention, "q_norm") else {})
