"""What a model computes otherwise than Llama, read from the model.

For models without a gap (`compiled_shapes`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from tunesmith.families.formulas import Formulas, LayerFormula
from tunesmith.families.layout import HEAD_NORMS, Layout, head_size, layer_path
from tunesmith.families.table import FAMILIES, SLIDING_ATTENTION, activation, windows
from tunesmith.kernels.records import Activation

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

KINDS = {"silu": Activation.SILU, "gelu_pytorch_tanh": Activation.GELU_TANH}


def layout_of(config: "PretrainedConfig") -> Layout:
    """That of its family; Llama's for a family that is not known."""
    family = FAMILIES.get(config.model_type)
    return family.layout if family else Layout()


def formulas_of(model: "PreTrainedModel") -> Formulas:
    """What the model computes otherwise than Llama."""
    config, base, first = model.config, model.base_model, model.get_submodule(layer_path(0))
    attention, kinds = cast(nn.Module, first.self_attn), rotation_types(model)
    return Formulas(
        layers=tuple(_layer(model, index, kinds, window) for index, window in enumerate(windows(config))),
        rotations=kinds,
        rotary_size=rotary_sizes(model)[0],
        embedding_scale=_embedding_scale(base),
        branch_scale=float(getattr(first, "residual_multiplier", 1.0)),
        score_scale=score_scale(attention, config),
        score_cap=float(getattr(config, "attn_logit_softcapping", None) or 0.0)
        if layout_of(config).capped_scores
        else 0.0,
        wide_norms=has_wide_norms(first, config),
        activation=KINDS[activation(config)],
    )


def rotation_types(model: "PreTrainedModel") -> tuple[str | None, ...]:
    """The types of layers that have angles of their own, in the order of their tables."""
    if not isinstance(getattr(model.base_model.rotary_emb, "rope_type", None), dict):
        return (None,)
    return tuple(sorted(set(_layer_types(model.config))))


def rotary_sizes(model: "PreTrainedModel") -> list[int]:
    """How many numbers of a head are rotated, for each of `rotation_types`."""
    rotary = model.base_model.rotary_emb
    names = ["inv_freq" if kind is None else f"{kind}_inv_freq" for kind in rotation_types(model)]
    return [2 * len(cast(Tensor, getattr(rotary, name))) for name in names]


def rotary_order(config: "PretrainedConfig", size: int, heads: int) -> Tensor | None:
    """The order in which outputs of queries or keys are packed.

    [heads * head size]; None: as they are. Where neighbours are rotated together they come to be as far apart as the
    kernel has them: the products of queries and keys stay the same. `size`: the numbers at the beginning of a head
    that are rotated.
    """
    if not layout_of(config).neighbours:
        return None
    head = head_size(config)
    one = torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2), torch.arange(size, head)])
    return (one + head * torch.arange(heads).unsqueeze(1)).flatten()


def score_scale(attention: nn.Module, config: "PretrainedConfig") -> float:
    """What the products of queries and keys are multiplied by."""
    given = getattr(attention, "scaling", None)
    return float(head_size(config) ** -0.5 if given is None else given)


def has_wide_norms(layer: nn.Module, config: "PretrainedConfig") -> bool:
    """Whether norms of queries and keys are of all heads together."""
    if not hasattr(layer.self_attn, "q_norm"):
        return False
    weight = cast(Tensor, layer.get_submodule(HEAD_NORMS["query_norm"]).weight)
    return len(weight) != head_size(config)


def _layer(model: "PreTrainedModel", index: int, kinds: tuple[str | None, ...], window: int) -> LayerFormula:
    config, attention = model.config, cast(nn.Module, model.get_submodule(layer_path(index)).self_attn)
    types = _layer_types(config)
    kind = types[index] if types else None
    place = 0 if kinds == (None,) else kinds.index(kind)
    unrotated = layout_of(config).only_windows_rotate and config.sliding_window and kind != SLIDING_ATTENTION
    rotated = getattr(attention, "use_rope", True) and not unrotated
    return LayerFormula(rotation=1 + place if rotated else 0, window=window)


def _layer_types(config: "PretrainedConfig") -> Sequence[str]:
    return cast(Sequence[str] | None, getattr(config, "layer_types", None)) or ()


def _embedding_scale(base: nn.Module) -> float:
    """What embeddings are multiplied by, in the module or behind it.

    Exactly: the module's tensor is rounded where a model was loaded in 16 bits.
    """
    in_module = getattr(base.embed_tokens, "scalar_embed_scale", 1.0)
    return float(in_module) * float(getattr(base, "embedding_multiplier", 1.0))
